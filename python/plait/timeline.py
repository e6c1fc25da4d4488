"""Timelines: what ran when, predicted or measured."""

from __future__ import annotations

import os
import pathlib

import numpy
import numpy.typing

from plait import _core

__all__ = ["StepMetrics", "Timeline"]

Int32 = numpy.typing.NDArray[numpy.int32]
Int64 = numpy.typing.NDArray[numpy.int64]
UInt8 = numpy.typing.NDArray[numpy.uint8]


class Timeline:
    """The events of all ranks of one step; each rank's in the order of its program.

    Columns are read-only arrays of shape (events,), views of the timeline's own memory; times are in
    nanoseconds, or in units where a schedule was drawn without costs. Made by `Schedule.timeline` and
    `Timeline.read`.
    """

    def __init__(self, handle: _core.Timeline, title: str = "", *, in_units: bool = False) -> None:
        self._handle = handle
        self.title = title
        self.in_units = in_units

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Timeline:
        """A timeline's file: of `save`, ``plait simulate --timeline``, or a run's timeline.json.

        Raises:
            InvalidInput: a file of another program or version, with the place in it.
        """
        return cls(_core.read_timeline(os.fspath(path)), os.fspath(path))

    @property
    def ranks(self) -> int:
        """P."""
        return self._handle.ranks

    @property
    def step(self) -> int:
        """Of a run, from 1; 0: of no run."""
        return self._handle.step

    def __len__(self) -> int:
        """How many events."""
        return self._handle.events

    @property
    def rank(self) -> Int32:
        """Of each event."""
        return self._handle.rank

    @property
    def lane(self) -> UInt8:
        """0: compute, 1: communication."""
        return self._handle.lane

    @property
    def type(self) -> UInt8:
        """Index into ``plait.action_types()``."""
        return self._handle.type

    @property
    def stage(self) -> Int32:
        """-1 where an action has none."""
        return self._handle.stage

    @property
    def microbatch(self) -> Int32:
        """-1 where an action has none."""
        return self._handle.microbatch

    @property
    def pair(self) -> Int32:
        """Of a pair's members, the pair's number on its rank; else -1."""
        return self._handle.pair

    @property
    def instruction(self) -> Int32:
        """Index in the rank's program."""
        return self._handle.instruction

    @property
    def part(self) -> Int32:
        """Of the action's stage."""
        return self._handle.part

    @property
    def awaited_rank(self) -> Int32:
        """Who made the received value that the event read; -1: it read none."""
        return self._handle.awaited_rank

    @property
    def awaited_instruction(self) -> Int32:
        """And by which instruction of that rank."""
        return self._handle.awaited_instruction

    @property
    def begin_ns(self) -> Int64:
        """When each event began."""
        return self._handle.begin_ns

    @property
    def end_ns(self) -> Int64:
        """When each event ended."""
        return self._handle.end_ns

    @property
    def waits_ns(self) -> Int64:
        """On the communication lane: the first part of the event, in which a peer had not posted its end yet."""
        return self._handle.waits_ns

    def metrics(self) -> StepMetrics:
        """Bubble, exposed and hidden communication of each rank. Cost: O(n log n) in the events."""
        return StepMetrics(self._handle.measure())

    def svg(self, *, title: str | None = None, width: int = 1200) -> str:
        """The picture, `width` pixels wide."""
        return self._handle.svg(self.title if title is None else title, width)

    def trace(self) -> str:
        """Chrome's and Perfetto's trace JSON."""
        return self._handle.trace()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes `trace`, or to a name that ends in .svg the picture; whole or not at all.

        Raises:
            FileProblem: what cannot be written, and why.
        """
        name = os.fspath(path)
        _core.write_file(name, self.svg() if name.endswith(".svg") else self.trace())

    def view(self, path: str | os.PathLike[str] | None = None, *, browser: bool = True) -> pathlib.Path:
        """A page to zoom into: see `plait.view`."""
        from plait.view import view

        return view(self, path=path, browser=browser)

    def _repr_svg_(self) -> str:
        return self.svg()

    def __repr__(self) -> str:
        return f"<plait.Timeline {self.title}: {self.ranks} ranks, {len(self)} events>"


class StepMetrics:
    """Figures of a step. Arrays have shape (P,), times are in nanoseconds.

    For each rank: busy + bubble = span, and bubble = fill + steady + drain. `peer_wait_ns` is the part of the
    bubble in which another rank was still making the awaited value, `exposed_comm_ns` the part in which the
    value was made already; `hidden_comm_ns` is the part of `transfer_ns` that lies under the rank's compute.
    """

    def __init__(self, handle: _core.StepMetrics) -> None:
        self.span_ns: int = handle.span_ns
        self.bubble_share: float = handle.bubble_share
        self.overlap_efficiency: float = handle.overlap_efficiency
        self.busy_ns: Int64 = handle.busy_ns
        self.bubble_ns: Int64 = handle.bubble_ns
        self.fill_ns: Int64 = handle.fill_ns
        self.steady_ns: Int64 = handle.steady_ns
        self.drain_ns: Int64 = handle.drain_ns
        self.peer_wait_ns: Int64 = handle.peer_wait_ns
        self.exposed_comm_ns: Int64 = handle.exposed_comm_ns
        self.transfer_ns: Int64 = handle.transfer_ns
        self.hidden_comm_ns: Int64 = handle.hidden_comm_ns

    def __repr__(self) -> str:
        return (
            f"<plait.StepMetrics span {self.span_ns} ns, bubble {100 * self.bubble_share:.1f} %, "
            f"overlap {100 * self.overlap_efficiency:.1f} %>"
        )
