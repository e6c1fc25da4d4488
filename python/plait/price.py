"""What a step takes, and what each rank holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy
import numpy.typing

from plait import _core

__all__ = ["CriticalStep", "Price"]

Int64 = numpy.typing.NDArray[numpy.int64]


@dataclasses.dataclass(frozen=True)
class CriticalStep:
    """One step of the longest chain of actions, each of which kept the next from beginning earlier.

    Times are in nanoseconds; `wait_ns` lies between the step before and this one: a value was on its way.
    """

    rank: int
    position: int
    action: str
    begin_ns: int
    end_ns: int
    wait_ns: int


class Price:
    """A proven schedule under given costs. Times are integer nanoseconds; arrays have shape (P,).

    Attributes:
        schedule: its name.
        ranks, microbatches, chunks: P, M, and stages a rank.
        makespan_ns: from the first begin to the last end of any action.
        span_ns: the longest a single rank takes from its first to its last.
        bound_ns, bound: what no order of the actions can beat, and the bound's name (docs/bounds.md).
        pair_coverage: forwards inside a pair, of all forwards.
        busy_ns: union of a rank's compute; busy + idle = makespan, idle = fill + steady + drain.
        fill_ns, steady_ns, drain_ns: idle before, between and after a rank's compute.
        exposed_comm_ns: the part of idle in which all that the next action waits for was made.
        peak_activations: the most stage activations that a rank holds at once.
        peak_bytes: the most bytes; None without costs in bytes.
        activation_slots: buffers that hold all of a rank's activations.
        critical_path: the longest chain, if it was asked for.
        lowering: the options it was lowered with, if `plait.compare` lowered it.
    """

    def __init__(self, handle: _core.Price, lowering: Mapping[str, int | str] | None = None) -> None:
        self.lowering: dict[str, int | str] = dict(lowering or {})
        self.schedule: str = handle.schedule
        self.ranks: int = handle.ranks
        self.microbatches: int = handle.microbatches
        self.chunks: int = handle.chunks
        self.makespan_ns: int = handle.makespan_ns
        self.span_ns: int = handle.span_ns
        self.bound_ns: int = handle.bound_ns
        self.bound: str = handle.bound
        self.pair_coverage: float = handle.pair_coverage
        self.busy_ns: Int64 = handle.busy_ns
        self.idle_ns: Int64 = handle.idle_ns
        self.fill_ns: Int64 = handle.fill_ns
        self.steady_ns: Int64 = handle.steady_ns
        self.drain_ns: Int64 = handle.drain_ns
        self.exposed_comm_ns: Int64 = handle.exposed_comm_ns
        self.peak_activations: Int64 = handle.peak_activations
        self.peak_bytes: Int64 | None = handle.peak_bytes if handle.has_bytes else None
        self.activation_slots: Int64 = numpy.array(handle.activation_slots, dtype=numpy.int64)
        self.critical_path: tuple[CriticalStep, ...] = tuple(CriticalStep(*step) for step in handle.critical_path)

    @property
    def idle_share(self) -> numpy.typing.NDArray[numpy.float64]:
        """Idle of each rank as a fraction of the makespan."""
        return self.idle_ns / max(self.makespan_ns, 1)

    @property
    def above_bound_ns(self) -> int:
        """What any order of the actions could save at most."""
        return self.makespan_ns - self.bound_ns

    def __repr__(self) -> str:
        return (
            f"<plait.Price {self.schedule}: makespan {self.makespan_ns} ns, {self.above_bound_ns} ns above the "
            f"bound ({self.bound}), idle at most {100 * self.idle_share.max():.1f} %>"
        )
