"use strict";
// From a file's columns to what is drawn: tracks of events, memory curves, who waits for whom.

const LANES = ["compute", "communication"];
const COMPUTE = 0;
const MAX_TRACKS = 4;  // of events of one lane at the same time; what is more lies on the last one

// Types by their class of colour.
const CLASS_OF_TYPE = {
  F: 0, B: 1, I: 2, W: 3, SEND_F: 4, RECV_F: 4, SEND_B: 4, RECV_B: 4, UNSHARD: 5, RESHARD: 5, REDUCE_GRAD: 5,
  WAIT_SEND_F: 4, WAIT_SEND_B: 4, WAIT_REDUCE_GRAD: 5,
};
const CLASSES = 6;

// Events that begin in order. Levels hold them merged, coarsest first: what is narrower than
// `resolution` and begins in the same cell of that size is one entry. A frame takes the coarsest
// level whose resolution is below a pixel, so it looks at about as many entries as there are pixels.
class Track {
  constructor(model, events) {
    this.events = Int32Array.from(events);
    const n = this.events.length;
    this.begin = new Float64Array(n);
    this.end = new Float64Array(n);
    this.latest = new Float64Array(n);  // end of all up to here: where to start drawing
    for (let i = 0; i < n; ++i) {
      const event = this.events[i];
      this.begin[i] = model.begin[event];
      this.end[i] = model.end[event];
      this.latest[i] = Math.max(this.end[i], i > 0 ? this.latest[i - 1] : 0);
    }
    this.levels = [];
    for (let cells = 2048; cells < 1e9; cells *= 4) {
      const level = this.merge(model, model.span / cells);
      if (level.begin.length > 0.7 * n) break;
      this.levels.push(level);
    }
  }

  merge(model, resolution) {
    const begin = [], end = [], latest = [], colour = [];
    const busy = new Float64Array(2 * CLASSES);
    let cell = -1, most = 0;
    for (let i = 0; i < this.events.length; ++i) {
      const width = this.end[i] - this.begin[i];
      const here = width < resolution ? Math.floor(this.begin[i] / resolution) : -1;
      const shade = model.colour[this.events[i]];
      if (here < 0 || here !== cell) {
        begin.push(this.begin[i]);
        end.push(this.end[i]);
        colour.push(shade);
        latest.push(this.latest[i]);
        busy.fill(0);
        most = 0;
        cell = here;
      }
      const last = end.length - 1;
      end[last] = Math.max(end[last], this.end[i]);
      latest[last] = this.latest[i];
      busy[shade] += width;
      if (busy[shade] > most) {
        most = busy[shade];
        colour[last] = shade;
      }
    }
    return {resolution, begin: Float64Array.from(begin), end: Float64Array.from(end),
            latest: Float64Array.from(latest), colour: Uint8Array.from(colour), events: null};
  }

  // What to draw where a pixel is `pixel` long.
  level(pixel) {
    for (const level of this.levels) {
      if (level.resolution <= pixel) return level;
    }
    return this;
  }
}

// The first index at which sorted `values` are above `limit`.
function firstAbove(values, limit) {
  let low = 0, high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] > limit) high = middle; else low = middle + 1;
  }
  return low;
}

class Model {
  constructor(file, types) {
    this.name = file.name;
    this.kind = file.kind;
    this.unit = file.unit;
    this.pairsRan = file.pairs;
    this.ranks = file.ranks;
    this.types = types;
    const count = file.begin.length;
    this.count = count;
    this.rank = Int32Array.from(file.rank);
    this.lane = Uint8Array.from(file.lane);
    this.instruction = Int32Array.from(file.instruction);
    this.type = Uint8Array.from(file.type);
    this.stage = Int32Array.from(file.stage);
    this.microbatch = Int32Array.from(file.microbatch);
    this.part = Int32Array.from(file.part);
    this.pair = Int32Array.from(file.pair);
    this.awaitedRank = Int32Array.from(file.awaited_rank);
    this.awaitedInstruction = Int32Array.from(file.awaited_instruction);
    this.begin = Float64Array.from(file.begin);
    this.end = Float64Array.from(file.duration, (duration, i) => file.begin[i] + duration);
    this.span = 0;
    this.stages = 1;
    this.microbatches = 0;
    for (let i = 0; i < count; ++i) {
      this.span = Math.max(this.span, this.end[i]);
      this.stages = Math.max(this.stages, this.stage[i] + 1);
      this.microbatches = Math.max(this.microbatches, this.microbatch[i] + 1);
    }
    if (this.span === 0) this.span = 1;
    this.colourEvents();
    this.indexActions();
    this.order = Array.from({length: count}, (_, i) => i).sort((a, b) => this.begin[a] - this.begin[b] || a - b);
    this.layTracks();
    this.findPairs();
    this.measureMemory();
  }

  typeOf(event) { return this.types[this.type[event]]; }

  label(event) {
    const microbatch = this.microbatch[event];
    return this.stage[event] + this.typeOf(event) + (microbatch < 0 ? "" : microbatch);
  }

  // A rank's first stage has the plain colour, its later ones the dark one.
  colourEvents() {
    const first = new Int32Array(this.ranks).fill(1 << 30);
    for (let i = 0; i < this.count; ++i) first[this.rank[i]] = Math.min(first[this.rank[i]], this.stage[i]);
    this.colour = new Uint8Array(this.count);
    this.severalStages = false;
    for (let i = 0; i < this.count; ++i) {
      const later = this.stage[i] !== first[this.rank[i]];
      this.severalStages = this.severalStages || later;
      this.colour[i] = 2 * (CLASS_OF_TYPE[this.typeOf(i)] ?? 5) + (later ? 1 : 0);
    }
  }

  key(type, stage, microbatch) {
    return (type * this.stages + stage) * (this.microbatches + 1) + microbatch + 1;
  }

  // Events by action, and by micro-batch. Replicas run the same actions; as ranks are numbered
  // pipeline first, replica c has the ranks that leave c when divided by the number of replicas.
  indexActions() {
    this.byAction = new Map();
    this.byMicrobatch = Array.from({length: this.microbatches}, () => []);
    for (let i = 0; i < this.count; ++i) {
      const key = this.key(this.type[i], this.stage[i], this.microbatch[i]);
      const events = this.byAction.get(key);
      if (events) events.push(i); else this.byAction.set(key, [i]);
      if (this.microbatch[i] >= 0) this.byMicrobatch[this.microbatch[i]].push(i);
    }
    for (const events of this.byMicrobatch) events.sort((a, b) => this.begin[a] - this.begin[b] || a - b);
    const forward = this.types.indexOf("F");
    const some = [...this.byAction.values()].find((events) => this.type[events[0]] === forward) ?? [];
    const replicas = new Set(some.map((event) => this.rank[event])).size;
    this.replicas = replicas > 1 && this.ranks % replicas === 0 ? replicas : 1;
  }

  column(event) { return this.rank[event] % this.replicas; }

  // Events of an action in the replica of `like`.
  eventsOf(typeName, stage, microbatch, like) {
    const type = this.types.indexOf(typeName);
    if (type < 0 || stage < 0 || stage >= this.stages) return [];
    const events = this.byAction.get(this.key(type, stage, microbatch)) ?? [];
    return this.replicas === 1 ? events : events.filter((event) => this.column(event) === this.column(like));
  }

  // All of a micro-batch in time order, of one replica if `column` is given.
  eventsOfMicrobatch(microbatch, column) {
    const events = this.byMicrobatch[microbatch] ?? [];
    if (this.replicas === 1 || column === undefined) return events;
    return events.filter((event) => this.column(event) === column);
  }

  // lanes[rank][lane] is a list of tracks. What runs at the same time lies on tracks of its own.
  layTracks() {
    const lists = Array.from({length: this.ranks}, () => LANES.map(() => [{events: [], end: 0}]));
    this.trackOf = new Uint8Array(this.count);
    for (const event of this.order) {
      const tracks = lists[this.rank[event]][this.lane[event]];
      let at = tracks.findIndex((track) => track.end <= this.begin[event]);
      if (at < 0 && tracks.length < MAX_TRACKS) at = tracks.push({events: [], end: 0}) - 1;
      if (at < 0) at = tracks.length - 1;
      tracks[at].events.push(event);
      tracks[at].end = Math.max(tracks[at].end, this.end[event]);
      this.trackOf[event] = at;
    }
    this.lanes = lists.map((lanes) => lanes.map((tracks) => tracks.map((track) => new Track(this, track.events))));
    this.hasCommunication = this.lane.some((lane) => lane !== COMPUTE);
    this.busy = this.lanes.map((lanes) => {
      let sum = 0, until = 0;
      const events = lanes[COMPUTE].flatMap((track) => [...track.events]).sort((a, b) => this.begin[a] - this.begin[b]);
      for (const event of events) {
        sum += Math.max(0, this.end[event] - Math.max(until, this.begin[event]));
        until = Math.max(until, this.end[event]);
      }
      return sum;
    });
  }

  // Two cells in one black border, as in the papers: by rank, in time order.
  findPairs() {
    const found = Array.from({length: this.ranks}, () => new Map());
    for (let i = 0; i < this.count; ++i) {
      if (this.pair[i] < 0 || this.lane[i] !== COMPUTE) continue;
      const pairs = found[this.rank[i]];
      const pair = pairs.get(this.pair[i]);
      if (pair) {
        pair.begin = Math.min(pair.begin, this.begin[i]);
        pair.end = Math.max(pair.end, this.end[i]);
      } else {
        pairs.set(this.pair[i], {begin: this.begin[i], end: this.end[i]});
      }
    }
    this.pairs = found.map((pairs) => {
      const sorted = [...pairs.values()].sort((a, b) => a.begin - b.begin);
      return {begin: Float64Array.from(sorted, (pair) => pair.begin), end: Float64Array.from(sorted, (pair) => pair.end)};
    });
    this.hasPairs = this.pairs.some((pairs) => pairs.begin.length > 0);
  }

  // Activations alive on each rank: one more from F's first begin, one less from the last end of
  // what uses it last, B or W.
  measureMemory() {
    const changes = Array.from({length: this.ranks}, () => []);
    for (const events of this.byAction.values()) {
      const type = this.typeOf(events[0]);
      if (type !== "F" && type !== "B" && type !== "W") continue;
      const times = new Map();
      for (const event of events) {
        if (this.lane[event] !== COMPUTE) continue;
        const rank = this.rank[event];
        const time = times.get(rank);
        if (type === "F") times.set(rank, Math.min(time ?? Infinity, this.begin[event]));
        else times.set(rank, Math.max(time ?? 0, this.end[event]));
      }
      for (const [rank, time] of times) changes[rank].push([time, type === "F" ? 1 : -1]);
    }
    this.peak = 0;
    this.memory = changes.map((list) => {
      list.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
      const times = [], alive = [];
      let now = 0, peak = 0;
      for (const [time, change] of list) {
        now += change;
        if (times.length > 0 && times[times.length - 1] === time) alive[alive.length - 1] = now;
        else { times.push(time); alive.push(now); }
      }
      for (const value of alive) peak = Math.max(peak, value);
      this.peak = Math.max(this.peak, peak);
      return {times: Float64Array.from(times), alive: Int32Array.from(alive), peak};
    });
  }

  aliveAt(rank, time) {
    const {times, alive} = this.memory[rank];
    const at = firstAbove(times, time) - 1;
    return at < 0 ? 0 : alive[at];
  }

  // The event before this one on its rank's compute lane, or its communication lane; or -1.
  eventBefore(event) {
    let best = -1;
    for (const track of this.lanes[this.rank[event]][this.lane[event]]) {
      const at = firstAbove(track.begin, this.begin[event]) - 1;
      for (let i = at; i >= Math.max(0, at - 2); --i) {
        const other = track.events[i];
        if (other === event || this.end[other] > this.begin[event]) continue;
        if (best < 0 || this.end[other] > this.end[best]) best = other;
        break;
      }
    }
    return best;
  }

  // Who made what this event reads; or -1. A timeline may say it; otherwise the part before it of
  // its own action, or of the actions whose results it needs the one that ended last before it began.
  producerOf(event) {
    if (this.awaitedRank[event] >= 0) {
      const named = this.eventOfInstruction(this.awaitedRank[event], this.awaitedInstruction[event]);
      if (named >= 0) return named;
    }
    const stage = this.stage[event], microbatch = this.microbatch[event];
    const own = this.eventsOf(this.typeOf(event), stage, microbatch, event);
    const parts = own.filter((other) => other !== event && this.rank[other] === this.rank[event]);
    const before = this.lastEnded(parts, event);
    if (before >= 0) return before;
    const made = [];
    for (const [type, offset] of PRODUCERS[this.typeOf(event)] ?? []) {
      const last = this.lastEnded(this.eventsOf(type, stage + offset, microbatch, event), event);
      if (last >= 0) made.push(last);
    }
    return this.lastEnded(made, event);
  }

  eventOfInstruction(rank, instruction) {
    if (!this.byInstruction) {
      this.byInstruction = new Map();
      for (let i = 0; i < this.count; ++i) {
        if (this.lane[i] === COMPUTE) this.byInstruction.set(this.rank[i] * 2 ** 31 + this.instruction[i], i);
      }
    }
    return this.byInstruction.get(rank * 2 ** 31 + instruction) ?? -1;
  }

  lastEnded(events, reader) {
    let best = -1;
    for (const event of events) {
      if (this.end[event] > this.begin[reader]) continue;
      if (best < 0 || this.end[event] > this.end[best]) best = event;
    }
    return best;
  }

  // Events at a time on a lane: the one that runs there, or the nearest within `slack`.
  eventAt(rank, lane, trackIndex, time, slack) {
    const track = this.lanes[rank]?.[lane]?.[trackIndex];
    if (!track) return -1;
    const at = firstAbove(track.begin, time) - 1;
    for (let i = at; i >= 0 && track.latest[i] >= time; --i) {
      if (track.end[i] >= time) return track.events[i];
    }
    if (at >= 0 && time - track.end[at] <= slack) return track.events[at];
    if (at + 1 < track.begin.length && track.begin[at + 1] - time <= slack) return track.events[at + 1];
    return -1;
  }
}

// What each type reads: the type that makes it, and how many stages away.
const PRODUCERS = {
  F: [["F", -1], ["RECV_F", 0]],
  B: [["B", 1], ["I", 1], ["RECV_B", 0], ["F", 0]],
  I: [["B", 1], ["I", 1], ["RECV_B", 0], ["F", 0]],
  W: [["I", 0]],
  SEND_F: [["F", 0]],
  SEND_B: [["B", 0], ["I", 0]],
  RECV_F: [["F", -1]],
  RECV_B: [["B", 1], ["I", 1]],
  WAIT_SEND_F: [["RECV_F", 1]],
  WAIT_SEND_B: [["RECV_B", -1]],
  WAIT_REDUCE_GRAD: [["REDUCE_GRAD", 0]],
};

// "7B3", "3" for a micro-batch, "r2" for a rank; letters of any case. Null: none of these.
function parseSearch(text) {
  const typed = text.trim().toUpperCase();
  let match = /^(\d+)\s*([A-Z_]+?)\s*(\d*)$/.exec(typed);
  if (match) return {stage: Number(match[1]), type: match[2], microbatch: match[3] === "" ? -1 : Number(match[3])};
  match = /^(?:MB|MICRO-?BATCH)?\s*(\d+)$/.exec(typed);
  if (match) return {microbatch: Number(match[1])};
  match = /^R(?:ANK)?\s*(\d+)$/.exec(typed);
  if (match) return {rank: Number(match[1])};
  return null;
}

// Events that a search names, in time order, the first part on each rank. A B that was split is found as its I and W, and the other way round.
function searchEvents(model, wanted) {
  const types = [wanted.type, ...(wanted.type === "B" ? ["I", "W"] : ["I", "W"].includes(wanted.type) ? ["B"] : [])];
  for (const name of types) {
    const type = model.types.indexOf(name);
    if (type < 0 || wanted.stage >= model.stages || wanted.microbatch >= model.microbatches) continue;
    const events = model.byAction.get(model.key(type, wanted.stage, wanted.microbatch));
    if (!events) continue;
    const ranks = new Set();
    return [...events].sort((a, b) => model.lane[a] - model.lane[b] || model.begin[a] - model.begin[b])
                      .filter((event) => !ranks.has(model.rank[event]) && ranks.add(model.rank[event]));
  }
  return [];
}
