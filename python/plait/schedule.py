"""Schedules: for each rank, an ordered list of actions."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, Union

import numpy
import numpy.typing

from plait import _core
from plait.costs import CostsLike, as_costs
from plait.errors import CheckFailed, Finding, InvalidInput, Note
from plait.price import Price
from plait.timeline import Timeline

__all__ = ["ACTION", "Proof", "Schedule"]

#: One entry of a rank's list: `type` is an index into ``plait.action_types()``; `stage` and
#: `microbatch` are -1 where a type has none; a pair is an entry of type OVERLAP_F_B followed by its
#: `members` entries.
ACTION = numpy.dtype(
    {
        "names": ["stage", "microbatch", "type", "members"],
        "formats": [numpy.int32, numpy.int32, numpy.uint8, numpy.uint16],
        "offsets": [0, 4, 8, 10],
        "itemsize": 12,
    }
)

Cell = Union[str, None, Sequence[str]]
Lists = Sequence[Sequence[Cell]]
Pass = Union[str, "tuple[str, int]"]

# A picture of more entries than this is nothing a notebook should hold.
_MOST_DRAWN = 20_000


class Schedule:
    """A schedule, not proven until `check` says so. Immutable, and safe to share between threads.

    Args:
        source: a schedule's name (``plait.schedules()``), a file, the text of one (anything with a
            line break), or a list for each rank. A cell of a list is an action as in ``"2F0"``, None or
            ``""`` for an idle slot, or a pair: ``"(0F7;7B3)OVERLAP_F_B"`` or ``["0F7", "7B3"]``.
        ranks, microbatches: P and M. A schedule by name needs them; of the others they say what is
            expected, and what differs from them is an error or a finding.
        chunks: stages a rank, V, where a schedule by name leaves a choice.
        any_m: also for an M outside the limits of a schedule by name.
        costs, max_activations: what cost-aware schedules (zb-auto, zbv-auto) are made for; the cap is in
            stage activations of a rank.
        stages, placement: of a file, a text or lists: S, and "loop", "v", "bidirectional" or the rank of
            every stage, as text ("0 1 1 0", two copies "0 1 / 1 0") or as numbers.

    Raises:
        InvalidInput: what cannot be read, with the place in it; a shape that a schedule does not have;
            an argument that says nothing about the source.

    >>> plait.Schedule("dualpipe-v", ranks=4, microbatches=8)
    >>> plait.Schedule([["0F0", "0F1", "0B0", "0B1"], [None, "1F0", ["1F1", "1B0"], "1B1"]])
    """

    _handle: _core.Schedule
    _notes: tuple[str, ...]

    def __init__(
        self,
        source: str | os.PathLike[str] | Lists,
        *,
        ranks: int | None = None,
        microbatches: int | None = None,
        chunks: int | None = None,
        any_m: bool = False,
        costs: CostsLike = None,
        max_activations: int | None = None,
        stages: int | None = None,
        placement: str | Sequence[int] | None = None,
    ) -> None:
        self._notes = ()
        by_name = isinstance(source, str) and is_name(source)
        of_name = {"chunks": chunks, "any_m": any_m or None, "costs": costs, "max_activations": max_activations}
        of_file = {"stages": stages, "placement": placement}
        for key, value in (of_file if by_name else of_name).items():
            if value is not None:
                needs = "a file or lists" if by_name else "a schedule by name"
                raise InvalidInput(f"is of {needs}, found {'a name' if by_name else 'another source'}", argument=key)
        shape = (ranks, stages, microbatches, _placement_text(placement))
        if by_name:
            for key, number in (("ranks", ranks), ("microbatches", microbatches)):
                if number is None:
                    raise InvalidInput("is missing, a schedule by name needs it", argument=key)
            assert isinstance(source, str) and ranks is not None and microbatches is not None
            made_for = None if costs is None else as_costs(costs)._handle
            self._handle = _core.generate(
                source, ranks, microbatches, chunks or 0, any_m, made_for, max_activations or 0
            )
        elif isinstance(source, str) and "\n" in source:
            self._handle, notes = _core.parse(source, "text", shape)
            self._notes = tuple(notes)
        elif isinstance(source, (str, os.PathLike)):
            self._handle, notes = _core.read(os.fspath(source), shape)
            self._notes = tuple(notes)
        else:
            self._handle = _core.of_cells([[_cell_text(cell) for cell in row] for row in source], "lists", shape)

    @classmethod
    def of(cls, torch_schedule: Any, *, lowered: bool = False) -> Schedule:
        """The schedule that an object of torch.distributed.pipelining holds, without importing torch.

        Reads its orders, its map from stages to ranks and its number of micro-batches. torch's own GPipe
        and 1F1B orders hold REDUCE_GRAD already; torch 2.13's 1F1B starts at F1 on the last rank, which
        `check` finds.

        Args:
            torch_schedule: a schedule object, of one stage or of several a rank, torch's or a subclass.
            lowered: the order with its communication (``pipeline_order_with_comms``), of a runtime schedule.

        Raises:
            InvalidInput: an object that holds no order.
        """
        name = type(torch_schedule).__name__
        attribute = "pipeline_order_with_comms" if lowered else "pipeline_order"
        order = getattr(torch_schedule, attribute, None)
        if not order:
            raise InvalidInput(f"holds no {attribute}, needed a schedule of torch.distributed.pipelining", name)
        cells = [["" if action is None else str(action) for action in order[rank]] for rank in sorted(order)]
        table = getattr(torch_schedule, "stage_index_to_group_rank", None)
        placement = None if not table else " ".join(str(table[stage]) for stage in sorted(table))
        schedule = cls.__new__(cls)
        schedule._notes = ()
        shape = (None, None, getattr(torch_schedule, "_n_microbatches", None), placement)
        schedule._handle = _core.of_cells(cells, name, shape)
        return schedule

    @classmethod
    def _made(cls, handle: _core.Schedule, notes: Iterable[str] = ()) -> Schedule:
        schedule = cls.__new__(cls)
        schedule._handle, schedule._notes = handle, tuple(notes)
        return schedule

    @property
    def name(self) -> str:
        """Of the generator, of the file, or of torch's class."""
        return self._handle.name

    @property
    def ranks(self) -> int:
        """P."""
        return self._handle.ranks

    @property
    def stages(self) -> int:
        """S."""
        return self._handle.stages

    @property
    def microbatches(self) -> int:
        """M."""
        return self._handle.microbatches

    @property
    def placement(self) -> str:
        """ "loop", "v", "bidirectional" or "table"."""
        return self._handle.placement_name

    @property
    def rank_of_stage(self) -> numpy.typing.NDArray[numpy.int32]:
        """The rank of every stage, shape (S,); with two copies of the stages (2, S)."""
        table = numpy.array(self._handle.rank_of_stage, dtype=numpy.int32)
        return table if self._handle.copies == 1 else table.reshape(self._handle.copies, -1)

    @property
    def forward_only(self) -> bool:
        """No backward is expected."""
        return self._handle.forward_only

    @property
    def lowered(self) -> bool:
        """It holds its communication, or needs none. Cost: O(entries), as of `dialect`."""
        return self._handle.lowered

    @property
    def dialect(self) -> str | None:
        """The torch that its lists are for, "torch-2.13" or "torch-2.15"; None if nothing in them tells."""
        return self._handle.dialect

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of how a file was taken, or of what lowering found."""
        return self._notes

    @property
    def entries(self) -> int:
        """Of all lists together; a pair is an entry, and each of its members is. Cost: O(P), no copy."""
        return self._handle.entries

    def actions(self, rank: int) -> numpy.typing.NDArray[numpy.void]:
        """The list of a rank: a read-only array of `ACTION`, a view of the schedule's own memory.

        >>> schedule.actions(0)["microbatch"].max()
        """
        return self._handle.bytes_of_list(rank).view(ACTION)

    def cells(self, rank: int) -> list[str]:
        """The list of a rank as text: ``"2F0"``, ``"(0F7;7B3)OVERLAP_F_B"``, ``""`` for an idle slot."""
        return self._handle.cells(rank)

    def text(self, form: str = "plait", *, dialect: str | None = None) -> str:
        """The schedule as a file: `form` is "csv" (torch's), "plait" or "json".

        A CSV is in the newest torch's dialect unless `dialect` names another; the other forms are as the
        lists are unless it is given.
        """
        return self._handle.print_as(form, dialect)

    def save(self, path: str | os.PathLike[str], *, form: str | None = None, dialect: str | None = None) -> None:
        """Writes `text` to a file, whole or not at all.

        `form` is taken from the name unless given: .csv, .json, .plait. A name that ends in .svg gets the
        picture.

        Raises:
            FileProblem: what cannot be written, and why.
        """
        name = os.fspath(path)
        suffix = pathlib.PurePath(name).suffix.lstrip(".")
        if form is None and suffix == "svg":
            return _core.write_file(name, self.timeline().svg(title=self.name))
        if form is None and suffix not in ("csv", "json", "plait"):
            raise InvalidInput(f"found '.{suffix}', needed .csv, .json, .plait, .svg or form=", name, file=name)
        return _core.write_file(name, self.text(form or suffix, dialect=dialect))

    def findings(
        self,
        *,
        matching: str | Sequence[str] | None = None,
        max_activations: int | Sequence[int] | None = None,
        max_active_stages: int | None = None,
        ascending: bool = False,
        messages: bool = False,
    ) -> tuple[Finding, ...]:
        """Every violation of every rule; empty if the schedule is proven. Arguments as of `check`."""
        return self._verdict(matching, max_activations, max_active_stages, ascending, messages)[1]

    def check(
        self,
        *,
        matching: str | Sequence[str] | None = None,
        max_activations: int | Sequence[int] | None = None,
        max_active_stages: int | None = None,
        ascending: bool = False,
        messages: bool = False,
    ) -> Proof:
        """Proves the schedule: docs/verify.md.

        Args:
            matching: how transports match messages, of "edge", "pair", "rank": the step must end under
                these; all three unless given. Messages are inserted for it where there are none.
            max_activations: cap on the stage activations that live on a rank; one, or one for each rank.
            max_active_stages: cap on the stages of a rank that are unsharded at a time.
            ascending: gradients must add up by ascending micro-batch.
            messages: insert the messages of a compute-only schedule and prove them too.

        Raises:
            CheckFailed: with `findings`, every violation.
            InvalidInput: an unknown matching.

        Cost: O(entries + S*M); the proof has a copy of the lists.
        """
        verdict, findings = self._verdict(matching, max_activations, max_active_stages, ascending, messages)
        proven = verdict.proven
        if proven is None:
            count = "1 violation" if len(findings) == 1 else f"{len(findings)} violations"
            raise CheckFailed(f"{count}, the first: {findings[0]}", self.name, findings)
        return Proof(proven, self._made(proven.schedule))

    def _verdict(
        self,
        matching: str | Sequence[str] | None,
        max_activations: int | Sequence[int] | None,
        max_active_stages: int | None,
        ascending: bool,
        messages: bool,
    ) -> tuple[_core.Verdict, tuple[Finding, ...]]:
        matchings = [matching] if isinstance(matching, str) else None if matching is None else list(matching)
        caps = [] if max_activations is None else [max_activations] if isinstance(max_activations, int) else list(max_activations)
        verdict = _core.check(self._handle, matchings, caps, max_active_stages, ascending, messages)
        checked = verdict.checked or self._handle

        def action(rank: int, position: int) -> str:
            return checked.action_at(rank, position) if 0 <= rank < self.ranks and position >= 0 else ""

        findings = tuple(
            Finding(
                rule, rank, position, action(rank, position), message,
                tuple(Note(r, p, action(r, p), text) for r, p, text in notes), by,
            )
            for rule, rank, position, message, by, notes in verdict.findings
        )
        return verdict, findings

    def lower(
        self,
        *,
        dialect: str | None = None,
        max_active_stages: int = 3,
        unshard_lookahead: str | Sequence[int] = "full",
        defer_reduce_grad_wait: bool = False,
        defer_recv: bool = False,
        max_outstanding_sends: int | str | None = None,
    ) -> Schedule:
        """The schedule with its communication and parameter actions, as torch lowers it.

        Args:
            dialect: "torch-2.13" or "torch-2.15", the newest unless given.
            max_active_stages: stages of a rank that are unsharded at a time.
            unshard_lookahead: "full", "auto", or for each rank how many stages ahead are unsharded.
            defer_reduce_grad_wait: wait for a reduction before the next one begins, not right behind it.
            defer_recv: receive right before the reader (torch's ``defer_pp_recv``).
            max_outstanding_sends: sends of a rank without their wait, or "min" for the fewest that work;
                `notes` says how many those are.

        Raises:
            InvalidInput: an option out of torch's limits, with the numbers.
        """
        fewest = max_outstanding_sends == "min"
        if isinstance(max_outstanding_sends, str) and not fewest:
            raise InvalidInput(f"found '{max_outstanding_sends}', needed min or a number", argument="max_outstanding_sends")
        ahead = unshard_lookahead if isinstance(unshard_lookahead, str) else ",".join(map(str, unshard_lookahead))
        sends = max_outstanding_sends if isinstance(max_outstanding_sends, int) else None
        return self._made(
            *self._handle.lower(
                dialect, max_active_stages, ahead, defer_reduce_grad_wait, defer_recv, sends, fewest
            )
        )

    def opt(
        self, passes: str | Sequence[Pass], *, costs: CostsLike = None, max_activations: int | None = None
    ) -> Schedule:
        """Runs passes in order: ``"pair"``, ``"place-recv=1"`` or ``("place-recv", 1)``; docs/passes.md.

        Args:
            costs: what the pass `pair` chooses by; without, it keeps all pairs that can run.
            max_activations: with costs, stage activations that a rank may hold in what it chooses.

        Raises:
            InvalidInput: an unknown pass (with the nearest known one), what a pass finds.
        """
        if max_activations is not None and costs is None:
            raise InvalidInput("is for what pair chooses by costs, needed both", argument="max_activations")
        if isinstance(passes, str):
            passes = [passes]
        spec = ",".join(one if isinstance(one, str) else f"{one[0]}={one[1]}" for one in passes)
        given = None if costs is None else as_costs(costs)._handle
        return self._made(_core.run_passes(self._handle, spec, given, max_activations))

    def simulate(self, costs: CostsLike = None, *, critical_path: bool = False) -> Price:
        """Proves the schedule and tells what a step takes and what each rank holds: docs/simulate.md.

        Args:
            costs: `plait.Costs`, its keys as a mapping, or a file; F, I and W take 1 and B 2 unless given.
            critical_path: also the longest chain of actions.

        Raises:
            CheckFailed: the schedule breaks rules.
            InvalidInput: costs that do not fit the schedule.
        """
        return Price(self._price(costs, critical_path, timeline=False))

    def timeline(self, costs: CostsLike = None) -> Timeline:
        """What runs when at these costs; arguments and errors as of `simulate`. 72 bytes an action."""
        timeline = self._price(costs, critical_path=False, timeline=True).timeline
        assert timeline is not None
        title = f"{self.name}, {self.ranks} ranks, {self.microbatches} micro-batches"
        return Timeline(timeline, title, in_units=costs is None)

    def _price(self, costs: CostsLike, critical_path: bool, timeline: bool) -> _core.Price:
        try:
            return _core.price(self._handle, as_costs(costs)._handle, critical_path, timeline)
        except CheckFailed:
            self.check()  # raises the same with all findings
            raise

    def draw(self, *, colour: bool = False, width: int = 160) -> str:
        """The schedule in letters, F = I = W = 1 and B = 2 columns of two characters; `width` in columns.

        Raises:
            InvalidInput: the ranks wait in a circle.
        """
        return self._handle.draw(colour, width)

    def view(self, path: str | os.PathLike[str] | None = None, *, browser: bool = True) -> pathlib.Path:
        """A page to zoom into: see `plait.view`."""
        from plait.view import view

        return view(self, path=path, browser=browser)

    def _repr_svg_(self) -> str | None:
        if self.entries > _MOST_DRAWN or self.findings():
            return None
        return self.timeline().svg()

    def __repr__(self) -> str:
        return (
            f"<plait.Schedule {self.name}: {self.ranks} ranks, {self.stages} stages, "
            f"{self.microbatches} micro-batches, placement {self.placement}, {self.entries} entries>"
        )

    def __eq__(self, other: object) -> bool:
        """The same name, shape and lists."""
        return isinstance(other, Schedule) and self._handle.equals(other._handle)

    __hash__ = None  # type: ignore[assignment]


class Proof:
    """A schedule that every rule holds for. Only `Schedule.check` makes one.

    Attributes:
        schedule: what was proven, with the messages that were inserted for it.
    """

    def __init__(self, handle: _core.Proof, schedule: Schedule) -> None:
        self._handle = handle
        self.schedule = schedule

    @property
    def lowered(self) -> bool:
        """Its messages are proven too: what a runtime needs."""
        return self._handle.lowered

    @property
    def summary(self) -> str:
        """One line: counts of actions and messages, rules, ways of matching."""
        return self._handle.summary

    @property
    def notes(self) -> tuple[str, ...]:
        """What one should know though no rule is broken, as stages that stay unsharded."""
        return tuple(self._handle.notes)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """None: it is proven."""
        return ()

    def __repr__(self) -> str:
        return f"<plait.Proof {self.summary}>"


def is_name(source: str) -> bool:
    """Of a schedule, ours or torch's; else it is a file or a text.

    Raises:
        InvalidInput: what looks like a name and is none.
    """
    return "\n" not in source and _core.names_generator(source)


def _cell_text(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell
    return "(" + ";".join(cell) + ")OVERLAP_F_B"


def _placement_text(placement: str | Sequence[int] | None) -> str | None:
    if placement is None or isinstance(placement, str):
        return placement
    return " ".join(map(str, placement))
