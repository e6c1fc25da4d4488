"""What a recorded step (runs/job/timeline.json) says of lanes and pairs. All figures are milliseconds.

An event is one part of an action on one lane of one rank; its `pair` names the pair that it belongs to on its rank, and is
there in sequence too. An exchange's event lasts from its issue to its end: its wait for the peer to issue the same is in it.

  compute, communication   length of the union of a lane's events: the larger of the ranks', the mean of the ranks
  reduction                of the communication, the part in which the gradients' sum over the ranks is under way; mean of the ranks
  hidden                   of the communication, the part that lies under compute events of the same rank; exposed: the rest
  pairs_compute            of each pair the length of the union of its compute events, summed; mean of the ranks
  pairs_communication      communication of the events of pairs only: |union of the exchanges' events that belong to a pair|
  pairs_hidden             of that, the part that lies under any compute event of the same rank
  pairs_transfer           of that, the part in which the peer has issued its side of the exchange too: the link's own time
  transfer_hidden          of that, the part that lies under any compute event of the same rank
  pairs_late               from when an exchange of a pair could be issued (what its rank computes before it for the same action is
                           there, and the exchange before it on its lane was issued) until it was, summed; mean of the ranks
  bound                    of a run in sequence: what a step with ideal pairs would take. Of each rank the step's span, less the
                           spans of its pairs, plus for each pair the larger of its two lanes; the larger of the ranks'.
                           What lies outside pairs stays as it was measured: the schedule's own fill and drain.
"""

import collections
import json
import pathlib

Intervals = list[tuple[int, int]]
FIGURES = ("span", "compute", "communication", "reduction", "hidden", "exposed", "bound", "pairs_compute", "pairs_communication",
           "pairs_hidden", "pairs_transfer", "transfer_hidden", "pairs_late")


def union(intervals: Intervals) -> Intervals:
    merged: Intervals = []
    for begin, end in sorted(intervals):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    return merged


def length(intervals: Intervals) -> float:
    return sum(end - begin for begin, end in union(intervals)) / 1e6


def overlap(one: Intervals, other: Intervals) -> float:
    one, other = union(one), union(other)
    total, i, j = 0, 0, 0
    while i < len(one) and j < len(other):
        total += max(0, min(one[i][1], other[j][1]) - max(one[i][0], other[j][0]))
        if one[i][1] < other[j][1]:
            i += 1
        else:
            j += 1
    return total / 1e6


class Event:
    def __init__(self, row: dict) -> None:
        arguments = row["args"]
        self.action, self.lane, self.rank = row["name"], row["cat"], row["pid"]
        self.part, self.instruction = arguments.get("part", 0), arguments["instruction"]
        self.pair = int(arguments["pair"].split(",")[0]) if "pair" in arguments else None
        self.begin, self.end = arguments["begin_ns"], arguments["end_ns"]

    @property
    def interval(self) -> tuple[int, int]:
        return self.begin, self.end


class Step:
    """One recorded step of ranks that run the same program."""

    def __init__(self, path: pathlib.Path) -> None:
        events = [Event(row) for row in json.loads(path.read_text())["traceEvents"] if row["ph"] == "X"]
        ranks = sorted({event.rank for event in events})
        issued = collections.defaultdict(int)  # when the last rank issued an exchange
        for event in events:
            issued[event.instruction] = max(issued[event.instruction], event.begin)
        self.pairs = len({(event.rank, event.pair) for event in events if event.pair is not None}) // len(ranks)
        self.span = (max(event.end for event in events) - min(event.begin for event in events)) / 1e6
        for figure in FIGURES[1:]:
            setattr(self, figure, 0.0)
        for rank in ranks:
            self.add([event for event in events if event.rank == rank], issued, len(ranks))

    def add(self, events: list[Event], issued: dict[int, int], ranks: int) -> None:
        compute = [event.interval for event in events if event.lane == "compute"]
        exchanges = [event for event in events if event.lane == "communication"]
        communication = [event.interval for event in exchanges]
        paired = [event for event in exchanges if event.pair is not None]
        self.compute = max(self.compute, length(compute))
        self.communication += length(communication) / ranks
        self.reduction += length([event.interval for event in exchanges if event.action.endswith("REDUCE_GRAD")]) / ranks
        self.hidden += overlap(communication, compute) / ranks
        self.exposed = self.communication - self.hidden
        self.pairs_communication += length([event.interval for event in paired]) / ranks
        self.pairs_hidden += overlap([event.interval for event in paired], compute) / ranks
        transfers = [(min(event.end, issued[event.instruction]), event.end) for event in paired]
        self.pairs_transfer += length(transfers) / ranks
        self.transfer_hidden += overlap(transfers, compute) / ranks
        self.pairs_late += late(events, exchanges) / ranks
        members = collections.defaultdict(list)
        for event in events:
            if event.pair is not None:
                members[event.pair].append(event)
        bound = self.span
        for pair in members.values():
            lanes = [length([event.interval for event in pair if event.lane == lane]) for lane in ("compute", "communication")]
            bound += max(lanes) - (max(event.end for event in pair) - min(event.begin for event in pair)) / 1e6
            self.pairs_compute += lanes[0] / ranks
        self.bound = max(self.bound, bound)


def late(events: list[Event], exchanges: list[Event]) -> float:
    total = 0
    before = None
    for exchange in exchanges:
        if exchange.pair is not None:
            made = [event.end for event in events if event.action == exchange.action and event.end <= exchange.begin]
            if before is not None:
                made.append(before.begin)
            total += max(0, exchange.begin - max(made, default=exchange.begin))
        before = exchange
    return total / 1e6
