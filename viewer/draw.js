"use strict";
// Paints a frame on the canvas: only what is in sight, at the level of detail of a pixel.

// Okabe and Ito's colours for F, B, I, W, messages, all else, as in the SVG pictures: of a rank's
// first stage and of its later ones, each with its ink.
const PALETTE = [
  ["#f0c15c", "#000"], ["#c98a00", "#000"],
  ["#5bbf9f", "#000"], ["#007a58", "#fff"],
  ["#8fcdf2", "#000"], ["#2b86bd", "#fff"],
  ["#dfa9c6", "#000"], ["#a8557f", "#fff"],
  ["#a6a6a6", "#000"], ["#a6a6a6", "#000"],
  ["#e2d95a", "#000"], ["#e2d95a", "#000"],
];
const MARK_COLOURS = [[SHORTER, "--shorter"], [LONGER, "--longer"], [OTHER_ORDER, "--order"], [ONLY_HERE, "--only"]];
const DIMMED = 0.22;  // what is left of a colour beside a followed micro-batch
const FONT = "system-ui, sans-serif";

class Painter {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", {alpha: false});
    this.widths = new Map();
    this.readColours();
  }

  readColours() {
    const style = getComputedStyle(document.documentElement);
    this.colours = {};
    this.pixel = {};
    for (const name of ["--page", "--lane", "--grid", "--ink", "--quiet", "--memory", "--pair", "--accent", "--only", "--order",
                        "--longer", "--shorter"]) {
      this.colours[name] = style.getPropertyValue(name).trim();
      this.pixel[name] = pixelOf(this.colours[name]);
    }
    this.plain = PALETTE.map(([colour]) => pixelOf(colour));
    this.dimmed = this.plain.map((colour) => mixed(colour, this.pixel["--lane"], DIMMED));
  }

  // `scene`: models, layout, comparison, stretch, and the state of the page.
  paint(scene) {
    this.scene = scene;
    const {layout} = scene;
    const ratio = window.devicePixelRatio || 1;
    if (!this.pixels || this.pixels.image.width !== this.canvas.width || this.pixels.image.height !== this.canvas.height || this.pixels.ratio !== ratio)
      this.pixels = new Pixels(layout.width, layout.height, ratio);
    this.drawn = 0;
    this.named = [];
    this.pixels.clear(this.pixel["--page"]);
    const sights = layout.panels.map((panel) => layout.bands.filter((band) => band.panel === panel && this.inSight(band)));
    layout.panels.forEach((panel, p) => this.paintBoxes(panel, sights[p]));
    this.context.putImageData(this.pixels.image, 0, 0);
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    layout.panels.forEach((panel, p) => this.paintOver(panel, sights[p]));
    this.paintScrollbar();
  }

  paintBoxes(panel, bands) {
    const {layout, models, comparison, state} = this.scene;
    this.pixels.clip(panel.x, layout.axis, panel.x + panel.width, layout.height);
    const shades = state.followed >= 0 ? this.dimmed : this.plain;
    for (const band of bands) this.paintGround(band);
    this.paintGrid(panel);
    for (const band of bands) {
      const model = models[band.file];
      [band.compute, band.communication].forEach((lane, index) => {
        if (!lane) return;
        const tracks = model.lanes[band.rank][index];
        tracks.forEach((track, t) => this.paintTrack(band, model, track, Layout.trackPlace(lane, tracks.length, t), shades));
      });
      this.paintMemory(band, model);
      if (comparison && band.marks !== undefined) this.paintMarks(band, comparison);
    }
  }

  paintOver(panel, bands) {
    const {layout, models, state, comparison} = this.scene;
    const context = this.context;
    context.save();
    context.beginPath();
    context.rect(panel.x, layout.axis, panel.width, layout.height - layout.axis);
    context.clip();
    context.globalAlpha = (state.followed >= 0 ? DIMMED : 1) * 0.4;
    if (comparison && state.marks) for (const band of bands) this.paintStripes(band, comparison);
    context.globalAlpha = state.followed >= 0 ? DIMMED : 1;
    for (const {band, model, events, top, height} of this.named) {
      if (band.panel === panel) this.paintLabels(model, events, top, height);
    }
    for (const band of bands) this.paintPairs(band, models[band.file].pairs[band.rank]);
    context.globalAlpha = 1;
    if (state.followed >= 0) this.paintFollowed(panel);
    this.paintSelected(panel, state.hovered, 1.5);
    this.paintSelected(panel, state.selected, 3);
    context.restore();
    for (const band of bands) this.paintName(band);
    this.paintAxis(panel);
  }

  inSight(band) {
    const {layout, state} = this.scene;
    const top = layout.axis - state.scroll;
    return band.bottom + top > layout.axis && band.top + top < layout.height;
  }

  y(value) { return value + this.scene.layout.axis - this.scene.state.scroll; }
  x(panel, file, time) {
    const {state, stretch} = this.scene;
    return panel.x + (time * stretch[file] - state.start) / state.pixel;
  }

  paintGround(band) {
    for (const lane of [band.compute, band.communication, band.memory]) {
      if (lane) this.pixels.fill(band.panel.x, this.y(lane.y), band.panel.width, lane.height, this.pixel["--lane"]);
    }
  }

  paintGrid(panel) {
    const {layout, state} = this.scene;
    const step = axisStep(state.pixel, 90);
    const end = state.start + panel.width * state.pixel;
    for (let k = Math.ceil(state.start / step); k * step <= end; ++k) {
      const x = Math.round(panel.x + (k * step - state.start) / state.pixel);
      this.pixels.fill(x, layout.axis, 1, layout.height, this.pixel["--grid"]);
    }
  }

  // The entries of a track that are in sight: calls use(k, x, width, level).
  eachInSight(band, track, use) {
    const {state, stretch} = this.scene;
    const scale = stretch[band.file] / state.pixel;
    const origin = band.panel.x - state.start / state.pixel;
    const from = state.start / stretch[band.file];
    const to = (state.start + band.panel.width * state.pixel) / stretch[band.file];
    const level = track.level ? track.level(state.pixel / stretch[band.file]) : track;
    let k = level.latest ? firstAbove(level.latest, from) : firstAbove(level.end, from);
    for (; k < level.begin.length && level.begin[k] < to; ++k) {
      const x = origin + level.begin[k] * scale;
      use(k, x, (level.end[k] - level.begin[k]) * scale, level);
    }
  }

  paintTrack(band, model, track, {y, height}, shades) {
    const {pixels} = this;
    const top = this.y(y);
    const [first, end] = pixels.rows(top, height);
    if (first >= end) return;
    const left = band.panel.x, right = left + band.panel.width;
    const events = [];
    let covered = -Infinity;
    this.eachInSight(band, track, (k, x, width, level) => {
      // What ends within the pixel that is painted already would not be seen.
      if (width < 1 && x + width <= covered) return;
      const shade = level.events ? model.colour[level.events[k]] : level.colour[k];
      const x1 = x + (width > 5 ? width - 1 : width);
      pixels.run(first, x, x1, shades[shade]);
      ++this.drawn;
      if (width < 1) covered = Math.floor(x) + 1;
      if (width >= 11 && height >= 10 && level.events) events.push(level.events[k], Math.max(x, left), Math.min(x1, right));
    });
    pixels.repeat(first, end);
    if (events.length > 0) this.named.push({band, model, events, top, height});
  }

  // The whole action where there is room, else the micro-batch, as the papers write it.
  paintLabels(model, named, top, height) {
    const context = this.context;
    const size = Math.min(13, Math.max(9, height * 0.5));
    context.font = `600 ${size}px ${FONT}`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (let k = 0; k < named.length; k += 3) {
      const event = named[k], left = named[k + 1], right = named[k + 2];
      const room = right - left - 3;
      let text = model.label(event);
      if (this.widthOf(text, size) > room) text = model.microbatch[event] < 0 ? "" : String(model.microbatch[event]);
      if (text === "" || this.widthOf(text, size) > room) continue;
      context.fillStyle = PALETTE[model.colour[event]][1];
      context.fillText(text, (left + right) / 2, top + height / 2 + 0.5);
    }
  }

  widthOf(text, size) {
    const key = text.length + (text.includes("_") ? 100 : 0);
    const known = this.widths.get(key * 100 + size);
    if (known !== undefined) return known;
    const width = this.context.measureText(text.replace(/\d/g, "0")).width;
    this.widths.set(key * 100 + size, width);
    return width;
  }

  paintPairs(band, pairs) {
    const context = this.context;
    context.strokeStyle = this.colours["--pair"];
    context.lineWidth = 1.5;
    this.eachInSight(band, pairs, (k, x, width) => {
      if (width > 7) context.strokeRect(x, this.y(band.compute.y) + 0.75, width - 1, band.compute.height - 1.5);
    });
  }

  // Steps; of those within one pixel the highest.
  paintMemory(band, model) {
    const {state, stretch} = this.scene;
    const {pixels} = this;
    const {times, alive} = model.memory[band.rank];
    if (times.length === 0 || model.peak === 0) return;
    const top = this.y(band.memory.y);
    const unit = (band.memory.height - 1) * pixels.ratio / model.peak;
    const scale = stretch[band.file] / state.pixel * pixels.ratio;
    const origin = band.panel.x * pixels.ratio - state.start / state.pixel * pixels.ratio;
    const heights = new Int16Array(pixels.width);
    let k = Math.max(0, firstAbove(times, state.start / stretch[band.file]) - 1);
    for (; k + 1 < times.length; ++k) {
      const from = Math.max(pixels.left, Math.round(origin + times[k] * scale));
      const to = Math.min(pixels.right, Math.max(from + 1, Math.round(origin + times[k + 1] * scale)));
      if (from >= pixels.right) break;
      const height = Math.round(alive[k] * unit);
      for (let x = from; x < to; ++x) heights[x] = Math.max(heights[x], height);
    }
    pixels.columns(pixels.rows(top, band.memory.height), top + band.memory.height, heights, this.pixel["--memory"]);
  }

  // Calls use(event, x, width, flags) for the marked events in sight.
  eachMark(band, comparison, use) {
    const {models, stretch, state} = this.scene;
    const model = models[band.file];
    const end = state.start + band.panel.width * state.pixel;
    for (const event of comparison.lists[band.file][band.rank]) {
      if (model.end[event] * stretch[band.file] < state.start || model.begin[event] * stretch[band.file] > end) continue;
      const x = this.x(band.panel, band.file, model.begin[event]);
      use(event, x, this.x(band.panel, band.file, model.end[event]) - x, comparison.flags[band.file][event]);
    }
  }

  // A tick for each marked event under the lane, the rarest kind on top.
  paintMarks(band, comparison) {
    const y = this.y(band.marks);
    for (const [flag, colour] of MARK_COLOURS) {
      this.eachMark(band, comparison, (event, x, width, flags) => {
        if (flags & flag) this.pixels.fill(x, y, Math.max(2, width - 1), MARKS - 1, this.pixel[colour]);
      });
    }
  }

  // Over what only one file has.
  paintStripes(band, comparison) {
    const context = this.context;
    const {y, height} = band.compute;
    context.strokeStyle = this.colours["--only"];
    context.lineWidth = 1.5;
    this.eachMark(band, comparison, (event, x, width, flags) => {
      if (!(flags & ONLY_HERE) || width < 8 || this.scene.models[band.file].lane[event] !== COMPUTE) return;
      context.save();
      context.beginPath();
      context.rect(x, this.y(y), width - 1, height);
      context.clip();
      context.beginPath();
      for (let at = x - height; at < x + width; at += 7) {
        context.moveTo(at, this.y(y) + height);
        context.lineTo(at + height, this.y(y));
      }
      context.stroke();
      context.restore();
    });
  }

  placeOf(panel, file, event) {
    const {models, layout} = this.scene;
    const model = models[file];
    const band = layout.bands.find((one) => one.panel === panel && one.file === file && one.rank === model.rank[event]);
    const lane = band && (model.lane[event] === COMPUTE ? band.compute : band.communication);
    if (!lane) return null;
    const tracks = model.lanes[model.rank[event]][model.lane[event]].length;
    const {y, height} = Layout.trackPlace(lane, tracks, model.trackOf[event]);
    const x = this.x(panel, file, model.begin[event]);
    return {x, y: this.y(y), width: Math.max(2, this.x(panel, file, model.end[event]) - x), height};
  }

  // The followed micro-batch in full colour, and a line through its forwards and backwards.
  paintFollowed(panel) {
    const {models, state} = this.scene;
    const context = this.context;
    for (const file of panel.files) {
      const model = models[file];
      const path = [];
      for (const event of model.eventsOfMicrobatch(state.followed, state.followedColumn)) {
        const place = this.placeOf(panel, file, event);
        if (!place) continue;
        context.fillStyle = PALETTE[model.colour[event]][0];
        context.fillRect(place.x, place.y, place.width > 5 ? place.width - 1 : place.width, place.height);
        if (place.width > 11 && place.height >= 10) this.paintLabels(model, [event, place.x, place.x + place.width], place.y, place.height);
        if (model.lane[event] === COMPUTE && "FBI".includes(model.typeOf(event))) path.push(place);
      }
      context.strokeStyle = this.colours["--ink"];
      context.lineWidth = 1.25;
      context.globalAlpha = 0.8;
      context.beginPath();
      for (let k = 0; k + 1 < path.length; ++k) {
        const from = path[k], to = path[k + 1];
        if (from.y === to.y && to.x - from.x - from.width < 2) continue;
        context.moveTo(from.x + from.width - 1, from.y + from.height / 2);
        context.lineTo(to.x + 1, to.y + to.height / 2);
      }
      context.stroke();
      context.globalAlpha = 1;
    }
  }

  paintSelected(panel, chosen, thickness) {
    if (!chosen || !panel.files.includes(chosen.file)) return;
    const place = this.placeOf(panel, chosen.file, chosen.event);
    if (!place) return;
    this.context.strokeStyle = this.colours["--accent"];
    this.context.lineWidth = thickness;
    this.context.strokeRect(place.x - 0.5, place.y - 0.5, place.width + 0.5, place.height + 1);
  }

  paintName(band) {
    const {models, layout} = this.scene;
    const model = models[band.file];
    const context = this.context;
    const x = band.panel.gutter + 10;
    const several = models.length > 1 && band.panel.files.length > 1;
    const middle = this.y(band.compute.y + band.compute.height / 2);
    if (middle < layout.axis) return;
    context.textAlign = "left";
    context.textBaseline = "middle";
    context.font = `600 12px ${FONT}`;
    context.fillStyle = this.colours["--ink"];
    context.fillText(`rank ${band.rank}${several ? "  " + "AB"[band.file] : ""}`, x, middle);
    const low = this.y((band.communication ?? band.compute).y + (band.communication ?? band.compute).height);
    const bottom = this.y(band.bottom);
    if (bottom - middle < 18) return;
    context.font = `11px ${FONT}`;
    context.fillStyle = this.colours["--quiet"];
    const idle = 100 * (1 - model.busy[band.rank] / model.span);
    const y = Math.max(middle + 14, (low + bottom) / 2);
    context.fillText(`idle ${idle.toFixed(idle < 10 ? 1 : 0)} %  peak ${model.memory[band.rank].peak}`, x, Math.min(y, bottom - 5));
  }

  paintAxis(panel) {
    const {layout, models, state, stretch} = this.scene;
    const context = this.context;
    context.fillStyle = this.colours["--page"];
    context.fillRect(panel.gutter, 0, panel.x + panel.width + 10 - panel.gutter, layout.axis);
    context.font = `11px ${FONT}`;
    context.textBaseline = "middle";
    const lines = layout.axis > 2 * AXIS_LINE ? panel.files : panel.files.slice(0, 1);
    lines.forEach((file, line) => {
      const y = 4 + AXIS_LINE * (line + 0.5);
      const pixel = state.pixel / stretch[file], start = state.start / stretch[file];
      const step = axisStep(pixel, 90);
      const unit = models[file].unit;
      context.textAlign = "left";
      context.fillStyle = this.colours["--quiet"];
      context.fillText((models.length > 1 && lines.length > 1 ? "AB"[file] + "  " : "") + (unit === "ns" ? "time" : "units of time"), panel.gutter + 10, y);
      context.textAlign = "center";
      for (let k = Math.max(0, Math.ceil(start / step)); k * step <= start + panel.width * pixel; ++k) {
        const x = panel.x + (k * step - start) / pixel;
        context.fillText(printTime(k * step, unit, Math.max(step * 10, start)), x, y);
      }
    });
    this.paintOverview(panel);
  }

  // Above the times: which part of the whole is in sight.
  paintOverview(panel) {
    const {state, length} = this.scene;
    const context = this.context;
    context.fillStyle = this.colours["--grid"];
    context.fillRect(panel.x, 1, panel.width, 3);
    const share = (time) => Math.min(1, Math.max(0, time / length));
    const from = share(state.start), to = share(state.start + panel.width * state.pixel);
    context.fillStyle = this.colours["--accent"];
    context.fillRect(panel.x + from * panel.width, 1, Math.max(3, (to - from) * panel.width), 3);
  }

  paintScrollbar() {
    const {layout, state} = this.scene;
    const seen = layout.height - layout.axis;
    if (layout.total <= seen) return;
    const context = this.context;
    context.fillStyle = this.colours["--quiet"];
    const height = Math.max(24, seen * seen / layout.total);
    const y = layout.axis + (seen - height) * state.scroll / (layout.total - seen);
    context.fillRect(layout.width - 6, y, 4, height);
  }
}
