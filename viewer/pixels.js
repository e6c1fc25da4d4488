"use strict";
// The boxes of a frame, set pixel by pixel: a hundred thousand of them take a few milliseconds,
// where a canvas takes that long for a thousand. Text and lines are drawn over them.

// "#rrggbb" as a pixel of an ImageData, and `over` mixed into `under`.
function pixelOf(colour) {
  const value = parseInt(colour.slice(1), 16);
  return (0xff000000 | (value & 0xff) << 16 | (value & 0xff00) | value >> 16) >>> 0;
}
function mixed(over, under, share) {
  let sum = 0xff000000;
  for (const shift of [0, 8, 16]) {
    const channel = (over >> shift & 0xff) * share + (under >> shift & 0xff) * (1 - share);
    sum |= Math.round(channel) << shift;
  }
  return sum >>> 0;
}

class Pixels {
  // In the units of the page; `ratio` pixels of the screen are one.
  constructor(width, height, ratio) {
    this.ratio = ratio;
    this.width = Math.max(1, Math.round(width * ratio));
    this.height = Math.max(1, Math.round(height * ratio));
    this.image = new ImageData(this.width, this.height);
    this.data = new Uint32Array(this.image.data.buffer);
    this.clip(0, 0, width, height);
  }

  clear(colour) { this.data.fill(colour); }

  clip(left, top, right, bottom) {
    const snap = (value, most) => Math.min(Math.max(Math.round(value * this.ratio), 0), most);
    this.left = snap(left, this.width);
    this.right = snap(right, this.width);
    this.top = snap(top, this.height);
    this.bottom = snap(bottom, this.height);
  }

  // Rows of the screen that a lane covers, clipped: [first, end).
  rows(top, height) {
    const first = Math.round(top * this.ratio);
    const end = Math.max(first + 1, Math.round((top + height) * this.ratio));
    return [Math.min(Math.max(first, this.top), this.bottom), Math.min(Math.max(end, this.top), this.bottom)];
  }

  fill(left, top, width, height, colour) {
    const [first, end] = this.rows(top, height);
    for (let y = first; y < end; ++y) this.run(y, left, left + width, colour);
  }

  // Pixels of one row; at least one, if any is in sight.
  run(y, left, right, colour) {
    const first = Math.round(left * this.ratio);
    const end = Math.max(first + 1, Math.round(right * this.ratio));
    const from = Math.max(first, this.left), to = Math.min(end, this.right);
    if (from >= to) return;
    const row = y * this.width;
    if (to - from === 1) this.data[row + from] = colour; else this.data.fill(colour, row + from, row + to);
  }

  // The row `y` once more in all rows up to `end`.
  repeat(y, end) {
    const from = y * this.width + this.left, to = y * this.width + this.right;
    for (let row = y + 1; row < end; ++row) this.data.copyWithin(row * this.width + this.left, from, to);
  }

  // Columns of the given heights, in pixels of the screen, that stand on the last of the rows.
  columns([first, end], bottom, heights, colour) {
    const base = Math.round(bottom * this.ratio);
    for (let y = first; y < end; ++y) {
      const row = y * this.width;
      for (let x = this.left; x < this.right; ++x) {
        if (heights[x] >= base - y) this.data[row + x] = colour;
      }
    }
  }
}
