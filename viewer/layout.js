"use strict";
// Where everything lies: panels beside one another, bands below one another, times along them.

const GUTTER = 118;      // left of each panel: the ranks' names
const AXIS_LINE = 22;    // height of one line of times
const BAND_GAP = 3;
const RANK_GAP = 9;
const MARKS = 4;         // height of the strip of differences
const MIN_LANE = 6, MAX_LANE = 64;

class Layout {
  // arrangement: "above", every rank's files below one another; "beside", a panel for each file.
  constructor(models, {arrangement, laneHeight, marks, stretched, width, height}) {
    this.width = width;
    this.height = height;
    this.axis = AXIS_LINE * (arrangement === "above" && stretched ? 2 : 1) + 6;
    const beside = arrangement === "beside" && models.length > 1;
    const count = beside ? models.length : 1;
    const each = Math.floor(width / count);
    this.panels = [];
    for (let p = 0; p < count; ++p) {
      const x = p * each + GUTTER;
      this.panels.push({gutter: p * each, x, width: Math.max(40, each - GUTTER - 10),
                        files: beside ? [p] : models.map((_, f) => f)});
    }
    this.plot = this.panels[0].width;
    this.placeBands(models, laneHeight, marks);
  }

  placeBands(models, laneHeight, marks) {
    this.bands = [];
    const ranks = Math.max(...models.map((model) => model.ranks));
    let top = 4;
    for (let rank = 0; rank < ranks; ++rank) {
      let bottom = top;
      for (const panel of this.panels) {
        let y = top;
        for (const file of panel.files) {
          if (rank >= models[file].ranks) continue;
          const band = this.band(models[file], {panel, file, rank, y, laneHeight, marks});
          this.bands.push(band);
          y = band.bottom + BAND_GAP;
        }
        bottom = Math.max(bottom, y);
      }
      top = bottom - BAND_GAP + RANK_GAP;
    }
    this.total = top;
  }

  band(model, {panel, file, rank, y, laneHeight, marks}) {
    const band = {panel, file, rank, top: y, compute: {y, height: laneHeight}};
    y += laneHeight;
    if (marks) {
      band.marks = y;
      y += MARKS;
    }
    if (model.hasCommunication) {
      const tracks = model.lanes[rank][1].length;
      const height = Math.max(5, Math.round(laneHeight * (tracks > 1 ? 0.9 : 0.5)));
      band.communication = {y: y + 1, height};
      y += height + 1;
    }
    band.memory = {y: y + 1, height: Math.max(8, Math.round(laneHeight * 0.7))};
    band.bottom = y + 1 + band.memory.height;
    return band;
  }

  // The lane height at which all ranks are in sight, as far as one can still read them.
  static fittingLane(models, options) {
    for (let lane = 48; lane > 12; --lane) {
      const layout = new Layout(models, {...options, laneHeight: lane});
      if (layout.axis + layout.total <= options.height) return lane;
    }
    return 12;
  }

  bandAt(x, y) {
    return this.bands.find((band) => x >= band.panel.gutter && x < band.panel.x + band.panel.width + 10 &&
                                     y >= band.top && y < band.bottom + BAND_GAP);
  }
  bandOf(file, rank) { return this.bands.find((band) => band.file === file && band.rank === rank); }

  // Of the lane: top and height of one of its tracks.
  static trackPlace(lane, tracks, index) {
    const height = lane.height / tracks;
    return {y: lane.y + index * height, height};
  }
}

// Round steps of time, at least `room` pixels apart.
function axisStep(pixel, room) {
  const least = pixel * room;
  const power = 10 ** Math.floor(Math.log10(least));
  for (const factor of [1, 2, 5, 10]) {
    if (factor * power >= least) return factor * power;
  }
  return 10 * power;
}

// A time in the unit that suits `scale`, another time.
function printTime(time, unit, scale) {
  if (unit !== "ns") return `${trimmed(time, scale / 1000)}`;
  const size = Math.abs(scale);
  const [name, factor] = size < 2e3 ? ["ns", 1] : size < 2e6 ? ["µs", 1e3] : size < 2e9 ? ["ms", 1e6] : ["s", 1e9];
  return `${trimmed(time / factor, scale / factor / 1000)} ${name}`;
}

function trimmed(value, precision) {
  const digits = Math.max(0, Math.min(3, -Math.floor(Math.log10(Math.max(precision, 1e-9)))));
  const text = value.toFixed(digits);
  return digits > 0 ? text.replace(/\.?0+$/, "") : text;
}
