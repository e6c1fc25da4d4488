"use strict";
// Two timelines, event by event: which belong together, and what differs.

const ONLY_HERE = 1;
const OTHER_ORDER = 2;
const LONGER = 4;
const SHORTER = 8;
const NOTICED = 1.25;  // durations that differ by less are taken as equal

class Comparison {
  // `stretch`: what a time of `b` is multiplied with to lie on the axis of `a`.
  constructor(a, b, stretch) {
    this.models = [a, b];
    this.stretch = stretch;
    this.partner = [new Int32Array(a.count).fill(-1), new Int32Array(b.count).fill(-1)];
    this.flags = [new Uint8Array(a.count), new Uint8Array(b.count)];
    this.matchInstructions();
    this.matchActions();
    this.markSingles();
    this.markOrders();
    this.markDurations();
    this.collect();
  }

  join(i, j) {
    this.partner[0][i] = j;
    this.partner[1][j] = i;
  }

  // Where both have an instruction of the same rank, and it is of the same action.
  matchInstructions() {
    const [a, b] = this.models;
    const keyed = new Map();
    for (let i = 0; i < a.count; ++i) {
      if (a.instruction[i] >= 0) keyed.set(`${a.rank[i]} ${a.lane[i]} ${a.instruction[i]} ${a.part[i]} ${a.label(i)}`, i);
    }
    for (let j = 0; j < b.count; ++j) {
      const key = `${b.rank[j]} ${b.lane[j]} ${b.instruction[j]} ${b.part[j]} ${b.label(j)}`;
      const i = keyed.get(key);
      if (i === undefined) continue;
      this.join(i, j);
      keyed.delete(key);
    }
  }

  // Events of one action on one lane of one rank, for both files.
  groups() {
    if (this.found) return this.found;
    this.found = new Map();
    this.models.forEach((model, f) => {
      for (const i of model.order) {
        const key = `${model.rank[i]} ${model.lane[i]} ${model.label(i)}`;
        if (!this.found.has(key)) this.found.set(key, [[], []]);
        this.found.get(key)[f].push(i);
      }
    });
    return this.found;
  }

  // What is left, by action: parts one to one as far as there are as many, the others with the last.
  matchActions() {
    for (const group of this.groups().values()) {
      const [left, right] = group.map((events, f) => events.filter((event) => this.partner[f][event] < 0));
      const n = Math.min(left.length, right.length);
      for (let k = 0; k < n; ++k) this.join(left[k], right[k]);
      [left, right].forEach((events, f) => {
        const others = group[1 - f];
        if (others.length === 0) return;
        for (let k = n; k < events.length; ++k) this.partner[f][events[k]] = others[others.length - 1];
      });
    }
  }

  // An action that only one has. Not on a communication lane that has none of that type at all in the
  // other: a plan without communication is not a plan in which every message is missing.
  markSingles() {
    const types = this.models.map((model) => {
      const seen = new Set();
      for (let i = 0; i < model.count; ++i) seen.add(model.lane[i] + " " + model.typeOf(i));
      return seen;
    });
    this.models.forEach((model, f) => {
      for (let i = 0; i < model.count; ++i) {
        if (this.partner[f][i] >= 0) continue;
        if (model.lane[i] !== COMPUTE && !types[1 - f].has(model.lane[i] + " " + model.typeOf(i))) continue;
        this.flags[f][i] |= ONLY_HERE;
      }
    });
    this.notInOther = types.map((seen, f) => [...new Set([...seen].filter((type) => !types[1 - f].has(type))
                                                                  .map((type) => type.split(" ")[1]))]);
  }

  // The fewest actions that must move so that a compute lane of `b` has the order of `a`.
  markOrders() {
    const [, b] = this.models;
    for (let rank = 0; rank < b.ranks; ++rank) {
      const firsts = [];
      const seen = new Set();
      const events = b.lanes[rank][COMPUTE].flatMap((track) => [...track.events]).sort((x, y) => b.begin[x] - b.begin[y]);
      for (const event of events) {
        if (this.partner[1][event] < 0 || seen.has(b.label(event))) continue;
        seen.add(b.label(event));
        firsts.push(event);
      }
      const a = this.models[0];
      const planned = firsts.map((event) => a.begin[this.partner[1][event]]);
      const kept = longestAscending(planned);
      firsts.forEach((event, k) => { if (!kept.has(k)) this.flags[1][event] |= OTHER_ORDER; });
    }
  }

  // An action that took noticeably longer or shorter, all its parts on a lane together.
  markDurations() {
    const [a, b] = this.models;
    const busy = (model, events) => events.reduce((sum, event) => sum + model.end[event] - model.begin[event], 0);
    for (const [left, right] of this.groups().values()) {
      if (left.length === 0 || right.length === 0) continue;
      const planned = busy(a, left);
      const took = busy(b, right) * this.stretch;
      const flag = took > planned * NOTICED ? LONGER : took * NOTICED < planned ? SHORTER : 0;
      if (flag && b.lane[right[0]] === COMPUTE) this.flags[1][right[0]] |= flag;
    }
  }

  // lists[file][rank]: marked events in time order; `all`: [file, event] in time order; counts.
  collect() {
    this.lists = this.models.map((model) => Array.from({length: model.ranks}, () => []));
    this.all = [];
    this.counts = {onlyA: 0, onlyB: 0, order: 0, longer: 0, shorter: 0};
    this.models.forEach((model, f) => {
      for (const event of model.order) {
        const flags = this.flags[f][event];
        if (!flags) continue;
        this.lists[f][model.rank[event]].push(event);
        this.all.push([f, event]);
        if (flags & ONLY_HERE) ++this.counts[f === 0 ? "onlyA" : "onlyB"];
        if (flags & OTHER_ORDER) ++this.counts.order;
        if (flags & LONGER) ++this.counts.longer;
        if (flags & SHORTER) ++this.counts.shorter;
      }
    });
    const time = ([f, event]) => this.models[f].begin[event] * (f === 1 ? this.stretch : 1);
    this.all.sort((x, y) => time(x) - time(y) || x[0] - y[0] || x[1] - y[1]);
  }

  describe() {
    const {onlyA, onlyB, order, longer, shorter} = this.counts;
    const words = [];
    if (onlyA) words.push(`${onlyA} only in A`);
    if (onlyB) words.push(`${onlyB} only in B`);
    if (order) words.push(`${order} in another order`);
    if (longer) words.push(`${longer} longer in B`);
    if (shorter) words.push(`${shorter} shorter in B`);
    return words.length === 0 ? "no differences" : words.join(", ");
  }
}

// Indices of a longest ascending subsequence. Cost: O(n log n).
function longestAscending(values) {
  const tails = [], before = new Int32Array(values.length);
  values.forEach((value, i) => {
    let low = 0, high = tails.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (values[tails[middle]] <= value) low = middle + 1; else high = middle;
    }
    before[i] = low > 0 ? tails[low - 1] : -1;
    tails[low] = i;
  });
  const kept = new Set();
  for (let i = tails.length > 0 ? tails[tails.length - 1] : -1; i >= 0; i = before[i]) kept.add(i);
  return kept;
}
