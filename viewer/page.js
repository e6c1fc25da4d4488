"use strict";
// The page: what is chosen and in sight, and how the keyboard, the mouse and the buttons change it.

const element = (id) => document.getElementById(id);
const LEAST_PIXEL = 1 / 300;  // of a nanosecond, or a unit of time

class Page {
  constructor(data) {
    this.models = data.files.map((file) => new Model(file, data.types));
    this.several = this.models.length > 1;
    this.state = {
      start: 0, pixel: 1, scroll: 0, laneHeight: 0, followed: -1, followedColumn: undefined, selected: null, hovered: null,
      arrangement: this.several && this.models.every((model) => model.kind === "schedule") ? "beside" : "above",
      stretched: this.several && this.differInScale(), marks: this.several,
    };
    if (this.state.arrangement === "beside") this.state.marks = false;
    this.found = {text: "", hits: [], at: -1};
    this.frames = 0;
    this.difference = -1;
    this.canvas = element("canvas");
    this.setTheme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    this.painter = new Painter(this.canvas);
    this.compare();
    this.describe();
    this.resize();
    this.fit();
    this.clear();
    listen(this);
  }

  differInScale() {
    const [a, b] = this.models;
    return a.unit !== b.unit || Math.max(a.span / b.span, b.span / a.span) > 4;
  }

  compare() {
    const {models, state} = this;
    this.stretch = models.map((model) => (state.stretched ? models[0].span / model.span : 1));
    this.length = Math.max(...models.map((model, f) => model.span * this.stretch[f]));
    this.comparison = this.several ? new Comparison(models[0], models[1], this.stretch[1]) : null;
  }

  setTheme(theme) {
    this.theme = theme;
    document.documentElement.dataset.theme = theme;
    if (!this.painter) return;
    this.painter.readColours();
    this.draw();
  }

  // What stands above and below the canvas.
  describe() {
    document.body.classList.toggle("several", this.several);
    document.title = this.models.map((model) => model.name).join(" | ") + " - plait";
    element("files").replaceChildren(...this.models.map((model, f) => {
      const line = document.createElement("div");
      line.className = "file";
      line.append(bold((this.several ? "AB"[f] + "  " : "") + model.name), " ", quiet(describeFile(model)));
      line.title = model.name + ": " + describeFile(model);
      return line;
    }));
    element("legend").replaceChildren(...legend(this));
    element("arrange").textContent = this.state.arrangement === "beside" ? "side by side" : "by rank";
    element("scale").textContent = this.state.stretched ? "stretched" : "same scale";
    element("marks").setAttribute("aria-pressed", String(this.state.marks));
  }

  resize() {
    const box = this.canvas.parentElement.getBoundingClientRect();
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.max(1, Math.round(box.width * ratio));
    this.canvas.height = Math.max(1, Math.round(box.height * ratio));
    this.box = {width: box.width, height: box.height};
    this.place();
  }

  place() {
    const {arrangement, stretched, marks} = this.state;
    const options = {arrangement, stretched, marks, ...this.box};
    const laneHeight = this.state.laneHeight || Layout.fittingLane(this.models, options);
    const before = this.layout;
    this.layout = new Layout(this.models, {...options, laneHeight});
    if (before && before.plot !== this.layout.plot) this.state.pixel *= before.plot / this.layout.plot;
    this.clamp();
    this.draw();
  }

  fitPixel() { return this.length * 1.004 / this.layout.plot; }

  fit() {
    this.state.start = 0;
    this.state.pixel = this.fitPixel();
    this.state.scroll = 0;
    this.state.laneHeight = 0;
    this.place();
  }

  clamp() {
    const {state, layout} = this;
    state.pixel = Math.min(Math.max(state.pixel, LEAST_PIXEL), this.fitPixel());
    const seen = layout.plot * state.pixel;
    const slack = Math.min(0.4 * seen, 0.02 * this.length);
    state.start = Math.min(Math.max(state.start, -slack), Math.max(0, this.length + slack - seen));
    if (state.pixel >= this.fitPixel()) state.start = 0;
    state.scroll = Math.min(Math.max(state.scroll, 0), Math.max(0, layout.total - (layout.height - layout.axis)));
  }

  draw() {
    if (this.waiting || !this.layout) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      ++this.frames;
      this.painter.paint(this);
    });
  }

  pan(pixels, down = 0) {
    this.state.start += pixels * this.state.pixel;
    this.state.scroll += down;
    this.clamp();
    this.draw();
  }

  // Around a place on the canvas, by default the selected action or the middle.
  zoom(factor, x) {
    const {state, layout} = this;
    const middle = layout.plot / 2;
    let at = x;
    if (at === undefined) {
      at = middle;
      if (state.selected) {
        const {file, event} = state.selected;
        const model = this.models[file];
        const chosen = ((model.begin[event] + model.end[event]) / 2 * this.stretch[file] - state.start) / state.pixel;
        if (chosen >= 0 && chosen <= layout.plot) at = chosen;
      }
    }
    const time = state.start + at * state.pixel;
    state.pixel = Math.min(Math.max(state.pixel * factor, LEAST_PIXEL), this.fitPixel());
    state.start = time - at * state.pixel;
    this.clamp();
    this.draw();
  }

  changeLanes(factor) {
    const now = this.layout.bands[0].compute.height;
    const next = Math.round(factor > 1 ? Math.max(now + 2, now * factor) : now * factor);
    this.state.laneHeight = Math.min(Math.max(next, MIN_LANE), MAX_LANE);
    this.place();
  }

  // Brings an action into sight: to the middle, and wide enough to be read.
  centre(file, event) {
    const {state, layout} = this;
    const model = this.models[file];
    const width = (model.end[event] - model.begin[event]) * this.stretch[file];
    if (width > 0 && width / state.pixel < 24) state.pixel = Math.max(width / 48, LEAST_PIXEL);
    if (width / state.pixel > layout.plot) state.pixel = width / layout.plot * 2;
    state.start = (model.begin[event] * this.stretch[file] + width / 2) - layout.plot * state.pixel / 2;
    const band = layout.bandOf(file, model.rank[event]);
    const seen = layout.height - layout.axis;
    if (band.top < state.scroll || band.bottom > state.scroll + seen) state.scroll = (band.top + band.bottom - seen) / 2;
    this.clamp();
    this.draw();
  }

  select(file, event, {follow = true, centre = false} = {}) {
    const {state} = this;
    const model = this.models[file];
    state.selected = {file, event};
    if (follow) {
      state.followed = model.microbatch[event];
      state.followedColumn = model.replicas > 1 ? model.column(event) : undefined;
    }
    if (centre) this.centre(file, event);
    const lines = describeEvent(model, event);
    this.say([(this.several ? "AB"[file] + " " : "") + lines[0], ...lines.slice(1, 4)].join(" · "));
    this.draw();
  }

  clear() {
    Object.assign(this.state, {followed: -1, followedColumn: undefined, selected: null});
    this.say(this.comparison && this.state.marks ? this.sayDifferences() : "");
    this.draw();
  }

  // The next or the previous action of the followed micro-batch, on compute lanes.
  step(direction) {
    const {state} = this;
    const file = state.selected?.file ?? 0;
    const model = this.models[file];
    if (state.followed < 0) return this.say("click an action, or search for one, to follow its micro-batch");
    const events = model.eventsOfMicrobatch(state.followed, state.followedColumn).filter((event) => model.lane[event] === COMPUTE);
    if (events.length === 0) return this.say(`micro-batch ${state.followed} is not in this file`);
    const now = state.selected ? events.indexOf(state.selected.event) : -1;
    const at = now < 0 ? (direction > 0 ? 0 : events.length - 1) : Math.min(Math.max(now + direction, 0), events.length - 1);
    this.select(file, events[at], {follow: false});
    if (!this.isInSight(file, events[at])) this.centre(file, events[at]);
  }

  isInSight(file, event) {
    const {state, layout} = this;
    const model = this.models[file];
    const band = layout.bandOf(file, model.rank[event]);
    const from = (model.begin[event] * this.stretch[file] - state.start) / state.pixel;
    const to = (model.end[event] * this.stretch[file] - state.start) / state.pixel;
    return from >= 0 && to <= layout.plot && band.top >= state.scroll && band.bottom <= state.scroll + layout.height - layout.axis;
  }

  stepDifference(direction) {
    if (!this.comparison) return;
    const {all} = this.comparison;
    if (all.length === 0) return this.say("no differences");
    if (!this.state.marks) this.toggle("marks");
    this.difference = (this.difference + direction + (this.difference < 0 && direction < 0 ? 1 : 0) + all.length) % all.length;
    const [file, event] = all[this.difference];
    this.select(file, event, {follow: false, centre: true});
    this.say([`difference ${this.difference + 1} of ${all.length}`, "AB"[file] + " " + this.models[file].label(event),
              ...describeDifference(this.comparison, file, event)].join(" · "));
  }

  sayDifferences() {
    const lacking = this.comparison.notInOther.map((types, f) => (types.length > 0 ? `; ${"BA"[f]} has no ${types.join(", ")}` : ""));
    return this.comparison.describe() + lacking.join("");
  }

  // The same text again: the next one found.
  search(text) {
    const wanted = parseSearch(text);
    if (!wanted) return this.say(`needed stage, type, micro-batch as in 7B3, a micro-batch, or r and a rank; found ${text}`);
    if (wanted.rank !== undefined) return this.searchRank(wanted.rank);
    if (this.found.text !== text) {
      const hits = this.models.flatMap((model, file) => {
        const events = wanted.type === undefined ? model.eventsOfMicrobatch(wanted.microbatch).slice(0, 1) : searchEvents(model, wanted);
        return events.map((event) => ({file, event}));
      });
      this.found = {text, hits, at: -1};
    }
    const {hits} = this.found;
    if (hits.length === 0) {
      this.found.text = "";
      return this.say(`${text} is not here`);
    }
    this.found.at = (this.found.at + 1) % hits.length;
    const {file, event} = hits[this.found.at];
    this.select(file, event, {centre: true});
    if (hits.length > 1) this.say(`${this.found.at + 1} of ${hits.length} · ${element("status").textContent}`);
  }

  searchRank(rank) {
    const band = this.layout.bands.find((one) => one.rank === rank);
    if (!band) return this.say(`rank ${rank} is not here`);
    this.state.scroll = band.top;
    this.clamp();
    this.say(`rank ${rank}`);
    this.draw();
  }

  toggle(what) {
    const {state} = this;
    if (what === "theme") return this.setTheme(this.theme === "dark" ? "light" : "dark");
    if (!this.several) return;
    if (what === "arrange") state.arrangement = state.arrangement === "beside" ? "above" : "beside";
    if (what === "marks") state.marks = !state.marks;
    if (what === "scale") {
      const share = state.start / this.length, zoom = state.pixel / this.fitPixel();
      state.stretched = !state.stretched;
      this.compare();
      state.start = share * this.length;
      state.pixel = zoom * this.fitPixel();
      this.difference = -1;
    }
    this.describe();
    this.place();
    this.say(state.marks ? this.sayDifferences() : "");
  }

  say(text) { element("status").textContent = text; }

  // What lies at a place of the canvas: {band, file, event}, or nothing.
  hit(x, y) {
    const {layout, state, models} = this;
    if (y < layout.axis) return null;
    const band = layout.bandAt(x, y - layout.axis + state.scroll);
    if (!band || x < band.panel.x || x > band.panel.x + band.panel.width) return null;
    const at = y - layout.axis + state.scroll;
    const time = (state.start + (x - band.panel.x) * state.pixel) / this.stretch[band.file];
    const found = {band, file: band.file, time, event: -1};
    const lanes = [band.compute, band.communication];
    lanes.forEach((lane, index) => {
      if (!lane || at < lane.y || at >= lane.y + lane.height) return;
      const count = models[band.file].lanes[band.rank][index].length;
      const track = Math.min(count - 1, Math.floor((at - lane.y) / lane.height * count));
      found.event = models[band.file].eventAt(band.rank, index, track, time, 1.5 * state.pixel / this.stretch[band.file]);
    });
    found.memory = at >= band.memory.y;
    return found;
  }
}

function bold(text) {
  const node = document.createElement("b");
  node.textContent = text;
  return node;
}
function quiet(text) {
  const node = document.createElement("span");
  node.textContent = text;
  return node;
}

const LEGEND = [["F", "forward"], ["B", "backward"], ["I", "backward for inputs"], ["W", "backward for weights"],
                ["", "messages and their waits"], ["", "parameters and gradients"]];

// Colours that the files have, then pairs, memory and marks.
function legend(page) {
  const used = new Set(page.models.flatMap((model) => [...new Set(model.colour)]));
  const entries = [];
  const entry = (boxes, text) => {
    const span = document.createElement("span");
    span.append(...boxes.map(([colour, kind]) => {
      const box = document.createElement("i");
      box.className = "box " + (kind ?? "");
      box.style.background = colour;
      return box;
    }), text);
    entries.push(span);
  };
  LEGEND.forEach(([letter, meaning], kind) => {
    const shades = [0, 1].filter((shade) => used.has(2 * kind + shade) && (kind < 4 || shade === 0 || !used.has(2 * kind)));
    if (shades.length > 0) entry(shades.map((shade) => [PALETTE[2 * kind + shade][0]]), letter + " " + meaning);
  });
  if (page.models.some((model) => model.severalStages)) entry([], "dark: a rank's later stages");
  if (page.models.some((model) => model.hasPairs)) entry([[PALETTE[0][0], "pair"], [PALETTE[2][0], "pair"]], "in one border: a pair");
  entry([["var(--memory)"]], "activations alive");
  if (page.several && page.state.marks) {
    for (const [colour, text] of [["--only", "only in one"], ["--order", "in another order"], ["--longer", "longer in B"], ["--shorter", "shorter in B"]])
      entry([[`var(${colour})`, "tick"]], text);
  }
  return entries;
}
