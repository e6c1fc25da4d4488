"use strict";
// What is said about an event, a file, the whole; as lists of plain strings.

function printSpan(model) {
  return model.unit === "ns" ? printTime(model.span, "ns", model.span) : `${model.span} units`;
}

// "B  1f1b.csv": makespan, ranks, idle time.
function describeFile(model) {
  const idle = model.busy.map((busy) => 1 - busy / model.span);
  const worst = 100 * Math.max(...idle);
  const words = [printSpan(model), `${model.ranks} ranks`, `${model.microbatches} micro-batches`,
                 `${worst.toFixed(1)} % idle at worst`, `peak ${model.peak}`];
  if (model.hasPairs) words.push(`pairs ${model.pairsRan}`);
  return words.join(" · ");
}

// A time exact to the digit: what one looks at is short beside the whole.
function exactTime(model, time) {
  if (model.unit !== "ns") return String(time);
  return printTime(time, "ns", Math.max(Math.abs(time), 1));
}

function describeEvent(model, event) {
  const begin = model.begin[event], end = model.end[event];
  const lines = [model.label(event)];
  const where = [`rank ${model.rank[event]}`, `stage ${model.stage[event]}`];
  if (model.microbatch[event] >= 0) where.push(`micro-batch ${model.microbatch[event]}`);
  if (model.part[event] > 0) where.push(`part ${model.part[event]}`);
  if (model.lane[event] !== COMPUTE) where.push("communication");
  if (model.pair[event] >= 0) where.push(`in pair ${model.pair[event]}`);
  lines.push(where.join(", "));
  const duration = model.unit === "ns" ? exactTime(model, end - begin) : `${end - begin} ${end - begin === 1 ? "unit" : "units"}`;
  lines.push(`${exactTime(model, begin)} to ${exactTime(model, end)}, took ${duration}`);
  lines.push(...describeWait(model, event));
  if (model.lane[event] === COMPUTE) lines.push(`${model.aliveAt(model.rank[event], begin)} activations alive on the rank at its begin`);
  return lines;
}

// What it waited for: its lane, or the maker of what it reads, whichever was later.
function describeWait(model, event) {
  const begin = model.begin[event];
  const before = model.eventBefore(event);
  const maker = model.producerOf(event);
  const laneFree = before < 0 ? 0 : model.end[before];
  const lines = [];
  const name = (other) => model.label(other) + (model.part[other] > 0 ? ` part ${model.part[other]}` : "") +
                          (model.rank[other] === model.rank[event] ? "" : ` of rank ${model.rank[other]}`);
  if (maker >= 0 && model.end[maker] > laneFree) {
    const late = begin - model.end[maker];
    lines.push(`waited for ${name(maker)}, which ended at ${exactTime(model, model.end[maker])}` +
               (late > 0 ? `; began ${exactTime(model, late)} later` : ""));
    if (begin > laneFree) lines.push(`its lane was idle for ${exactTime(model, begin - laneFree)} before`);
  } else if (before >= 0) {
    const late = begin - laneFree;
    lines.push(`waited for its lane: ${name(before)} ended at ${exactTime(model, laneFree)}` +
               (late > 0 ? `; began ${exactTime(model, late)} later` : ""));
    if (maker >= 0 && maker !== before) lines.push(`its input, of ${name(maker)}, was there at ${exactTime(model, model.end[maker])}`);
  } else {
    lines.push("waited for nothing: the first of its lane");
  }
  return lines;
}

function describeRank(model, rank) {
  const idle = 100 * (1 - model.busy[rank] / model.span);
  return [`rank ${rank}`, `idle ${idle.toFixed(1)} % of ${printSpan(model)}`, `at most ${model.memory[rank].peak} activations alive`];
}

function describeDifference(comparison, file, event) {
  const flags = comparison.flags[file][event];
  const [mine, other] = [comparison.models[file], comparison.models[1 - file]];
  const letters = "AB";
  const partner = comparison.partner[file][event];
  const lines = [];
  if (partner >= 0) {
    lines.push(`in ${letters[1 - file]}: ${exactTime(other, other.begin[partner])} to ${exactTime(other, other.end[partner])}` +
               durationRatio(comparison, file, event, partner));
  } else if (flags & ONLY_HERE) {
    lines.push(`only in ${letters[file]}`);
  }
  if (flags & OTHER_ORDER) lines.push("stands elsewhere in the rank's order in A");
  if (flags & LONGER) lines.push("took longer than in A");
  if (flags & SHORTER) lines.push("took less than in A");
  return lines;
}

// Of the two boxes as they are drawn.
function durationRatio(comparison, file, event, partner) {
  const length = (f, one) => (comparison.models[f].end[one] - comparison.models[f].begin[one]) * (f === 1 ? comparison.stretch : 1);
  const there = length(1 - file, partner);
  if (there <= 0) return "";
  return `; ${comparison.stretch === 1 ? "" : "stretched, "}${(length(file, event) / there).toFixed(2)} times as long here`;
}
