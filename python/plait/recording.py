"""Timelines of torch's own pipeline runtime.

torch.distributed.pipelining runs its actions as methods of a stage, and posts messages by one function of its
module of schedules. While a step runs these are wrapped; nothing of torch is changed between steps.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from plait import _core
from plait.errors import InvalidInput, NotBuilt
from plait.timeline import Timeline

__all__ = ["Recording", "record"]

_COMPUTE, _COMMUNICATION = 0, 1
# Exchanges of all ranks that follow one another: of eight, one is hardly disturbed.
_EXCHANGES = 8


@dataclasses.dataclass
class _Event:
    """What a rank saw of an action, by its own clock in nanoseconds."""

    stage: int
    type: str
    microbatch: int
    begin: int
    end: int
    pair: int = -1
    waits: int = 0

    @property
    def action(self) -> str:
        return f"{self.stage}{self.type}{self.microbatch if self.microbatch >= 0 else ''}"

    @property
    def lane(self) -> int:
        return _COMPUTE if self.type in ("F", "B", "I", "W") else _COMMUNICATION


Clock = tuple[int, int]  # how far a rank is ahead of rank 0, and give or take what


def record(torch_schedule: Any, path: str | os.PathLike[str] | None = None) -> Recording:
    """Records the steps of a schedule object of torch.distributed.pipelining, run by torch's own runtime.

    A step is run as before; then all ranks exchange what they saw, so that each has the timeline of all. Every
    rank of the schedule's process group calls this. F ends with the loss. A send ends when its receiver has the
    message, and on both sides the time in which the other had not posted its end is set apart. UNSHARD and
    RESHARD are not recorded.

    Args:
        torch_schedule: a schedule of one stage a rank, or of several; torch's or a subclass.
        path: a file that rank 0 writes after each step, a trace as of `Timeline.save`; "{step}" in it becomes
            the step's number, from 1.

    Returns:
        A `Recording`, which has the last step; as a context manager it ends the recording.

    Raises:
        InvalidInput: an object that is no schedule of torch.
        NotBuilt: stages that are not on a CPU, where calls return before the work is done.

    Cost: some microseconds an action; a gather of 100 bytes an action a step.

    >>> recording = plait.record(schedule, "runs/torch/step-{step}.json")
    >>> schedule.step(x)
    >>> plait.view(recording.last_step, plait.Timeline.read("runs/mine/timeline.json"))
    """
    stages = getattr(torch_schedule, "_stages", None) or [getattr(torch_schedule, "_stage", None)]
    if not all(hasattr(stage, "forward_one_chunk") for stage in stages):
        name = type(torch_schedule).__name__
        raise InvalidInput(f"found {name}, needed a schedule of torch.distributed.pipelining", argument="torch_schedule")
    if type(torch_schedule)._step_microbatches.__module__.startswith("plait."):
        raise InvalidInput("is run by plait, needed a schedule that torch runs", argument="torch_schedule")
    for stage in stages:
        kind = getattr(getattr(stage, "device", None), "type", "cpu")
        if kind != "cpu":
            raise NotBuilt(f"stage {stage.stage_index} is on {kind}, this version records stages on CPUs", argument="torch_schedule")
    return Recording(torch_schedule, stages, path)


class Recording:
    """The steps of a schedule of torch since `record`.

    Attributes:
        steps: how many were recorded.
        last_step: the timeline of all ranks, on every rank; None before the first.
    """

    steps: int
    last_step: Timeline | None

    def __init__(self, schedule: Any, stages: Sequence[Any], path: str | os.PathLike[str] | None) -> None:
        self.steps = 0
        self.last_step = None
        self._path = None if path is None else os.fspath(path)
        self._schedule = schedule
        self._group = stages[0].group
        self._dist: Any = importlib.import_module("torch.distributed")
        self._module: Any = importlib.import_module("torch.distributed.pipelining.schedules")
        self._events: list[_Event] = []
        self._pairs = _pairs_of(schedule, self._dist.get_rank(self._group))
        self._labels: dict[int, _Event] = {}
        self._undo: list[tuple[Any, str]] = []
        self._one_clock: bool | None = None  # of all ranks; known from the first step on
        for stage in stages:
            self._wrap_stage(stage)
        self._wrap(schedule, "_maybe_compute_loss", self._with_loss)
        self._wrap(schedule, "step", self._step)

    def stop(self) -> None:
        """The schedule is as it was before `record`. A second call does nothing."""
        while self._undo:
            owner, name = self._undo.pop()
            delattr(owner, name)

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<plait.Recording {self.steps} steps of {type(self._schedule).__name__}>"

    def _wrap(self, owner: Any, name: str, around: Callable[..., Any]) -> None:
        original = getattr(owner, name, None)
        if original is None:
            return

        @functools.wraps(original)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            return around(original, *args, **kwargs)

        setattr(owner, name, wrapped)
        self._undo.append((owner, name))

    def _wrap_stage(self, stage: Any) -> None:
        index = stage.stage_index

        def forward(original: Any, chunk: int, *args: Any, **kwargs: Any) -> Any:
            return self._timed("F", index, chunk, original, chunk, *args, **kwargs)

        def backward(original: Any, chunk: int, *args: Any, **kwargs: Any) -> Any:
            # (bwd_chunk_id, loss=None, full_backward=True, last_backward=False)
            whole = kwargs.get("full_backward", args[1] if len(args) > 1 else True)
            return self._timed("B" if whole else "I", index, chunk, original, chunk, *args, **kwargs)

        def weight(original: Any, chunk: int, *args: Any, **kwargs: Any) -> Any:
            return self._timed("W", index, chunk, original, chunk, *args, **kwargs)

        def reduce(original: Any, *args: Any, **kwargs: Any) -> Any:
            return self._timed("REDUCE_GRAD", index, -1, original, *args, **kwargs)

        self._wrap(stage, "forward_one_chunk", forward)
        self._wrap(stage, "backward_one_chunk", backward)
        self._wrap(stage, "backward_weight_one_chunk", weight)
        self._wrap(stage, "perform_reduce_grad", reduce)
        for name, kind in (("get_fwd_recv_ops", "RECV_F"), ("get_fwd_send_ops", "SEND_F"),
                           ("get_bwd_recv_ops", "RECV_B"), ("get_bwd_send_ops", "SEND_B")):
            self._wrap(stage, name, functools.partial(self._label, index, kind))

    def _timed(self, kind: str, stage: int, microbatch: int, call: Any, *args: Any, **kwargs: Any) -> Any:
        event = _Event(stage, kind, microbatch, time.monotonic_ns(), 0, self._pairs.get((stage, kind, microbatch), -1))
        result = call(*args, **kwargs)
        event.end = time.monotonic_ns()
        self._events.append(event)
        return result

    def _with_loss(self, original: Any, stage: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(stage, *args, **kwargs)
        if self._events and self._events[-1].type == "F":
            self._events[-1].end = time.monotonic_ns()
        return result

    def _label(self, stage: int, kind: str, original: Any, chunk: int) -> Any:
        ops = original(chunk)
        if ops:
            message = _Event(stage, kind, chunk, 0, 0)
            self._labels.update({id(op): message for op in ops})
        return ops

    def _post(self, original: Any, ops: Any, *args: Any, **kwargs: Any) -> Any:
        messages = [self._labels.pop(id(op), None) for op in ops]
        posted = time.monotonic_ns()
        works = original(ops, *args, **kwargs)
        for message in messages:
            if message is not None and message.begin == 0:  # the first of its tensors
                message.begin = message.end = posted
                self._events.append(message)
        if len(works) != len(ops):  # one for all of them
            return [_Work(work, messages) for work in works]
        return [_Work(work, [message]) for work, message in zip(works, messages)]

    def _step(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        self._events, self._labels = [], {}
        batch_p2p = self._module._batch_p2p
        self._module._batch_p2p = functools.partial(self._post, batch_p2p)
        try:
            result = original(*args, **kwargs)
        finally:
            self._module._batch_p2p = batch_p2p
        self._gather()
        return result

    def _gather(self) -> None:
        self.steps += 1
        seen: list[list[_Event]] = [[] for _ in range(self._dist.get_world_size(self._group))]
        self._dist.all_gather_object(seen, self._events, group=self._group)
        clocks = self._clocks()
        self.last_step = assemble(seen, clocks, self.steps, type(self._schedule).__name__)
        if self._path is not None and self._dist.get_rank(self._group) == 0:
            file = pathlib.Path(self._path.replace("{step}", str(self.steps)))
            file.parent.mkdir(parents=True, exist_ok=True)
            self.last_step.save(file)

    def _clocks(self) -> list[Clock]:
        """By rank. No rank leaves an exchange before all have entered it, which bounds every difference."""
        ranks = self._dist.get_world_size(self._group)
        if self._one_clock is None:
            names: list[str] = [""] * ranks
            self._dist.all_gather_object(names, _clock_name(), group=self._group)
            self._one_clock = bool(names[0]) and len(set(names)) == 1
        if self._one_clock:
            return []
        passages: list[list[tuple[int, int]]] = []
        before = (0, 0)
        for _ in range(_EXCHANGES + 1):
            entered = time.monotonic_ns()
            gathered: list[tuple[int, int]] = [(0, 0)] * ranks
            self._dist.all_gather_object(gathered, before, group=self._group)
            before = (entered, time.monotonic_ns())
            passages.append(gathered)
        return clocks_of(passages[1:])


class _Work:
    """torch's handle of a message, which tells when one has waited for it."""

    def __init__(self, work: Any, messages: Sequence[_Event | None]) -> None:
        self._work = work
        self._messages = messages

    def wait(self, *args: Any, **kwargs: Any) -> Any:
        result = self._work.wait(*args, **kwargs)
        for message in self._messages:
            if message is not None:
                message.end = time.monotonic_ns()
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._work, name)


def clocks_of(exchanges: Sequence[Sequence[tuple[int, int]]]) -> list[Clock]:
    """By how much each rank's clock is ahead of rank 0's.

    Args:
        exchanges: of each, by rank when it entered and when it left, by its own clock.
    """
    clocks = []
    for rank in range(len(exchanges[0])):
        least = max(one[rank][0] - one[0][1] for one in exchanges)
        most = min(one[rank][1] - one[0][0] for one in exchanges)
        clocks.append((least + (most - least) // 2, (most - least + 1) // 2) if rank else (0, 0))
    return clocks


def assemble(seen: Sequence[Sequence[_Event]], clocks: Sequence[Clock], step: int, title: str) -> Timeline:
    """The timeline of a step from what each rank saw by its own clock; `clocks` may be empty: one clock.

    A message is one thing on two ranks: it starts when both have posted their ends, and has ended when its
    receiver has it. An action that reads a received value waits for the one that made it.
    """
    for rank, events in enumerate(seen):
        offset = clocks[rank][0] if clocks else 0
        for event in events:
            event.begin -= offset
            event.end -= offset
    first = min((event.begin for events in seen for event in events), default=0)
    numbered = [sorted(events, key=lambda event: event.begin) for events in seen]
    _meet(event for events in numbered for event in events)
    makers: dict[tuple[int, str, int], tuple[int, int]] = {}
    for rank, events in enumerate(numbered):
        for number, event in enumerate(events):
            if event.type in ("F", "B", "I"):
                makers[event.stage, "F" if event.type == "F" else "B", event.microbatch] = rank, number
    rows = []
    for rank, events in enumerate(numbered):
        for number, event in enumerate(events):
            maker = (-1, -1)
            if event.type in ("F", "B", "I"):
                forward = event.type == "F"
                before = event.stage - 1 if forward else event.stage + 1
                maker = makers.get((before, "F" if forward else "B", event.microbatch), maker)
                if maker[0] == rank:  # handed over without a message
                    maker = (-1, -1)
            rows.append((rank, event.lane, number, event.action, event.pair, *maker,
                         event.begin - first, event.end - first, event.waits))
    return Timeline(_core.timeline_of(len(seen), step, rows, list(clocks)), f"{title}, step {step}")


def _meet(events: Iterator[_Event]) -> None:
    sends: dict[tuple[int, str, int], _Event] = {}
    receives: dict[tuple[int, str, int], _Event] = {}
    for event in events:
        if event.type in ("SEND_F", "SEND_B"):
            sends[event.stage, event.type[-1], event.microbatch] = event
        elif event.type in ("RECV_F", "RECV_B"):
            # Named by the stage that receives: its sender's is the one before, or the one behind.
            sender = event.stage - 1 if event.type == "RECV_F" else event.stage + 1
            receives[sender, event.type[-1], event.microbatch] = event
    for key, receive in receives.items():
        send = sends.get(key)
        if send is None:
            continue
        posted = max(send.begin, receive.begin)
        send.end = max(min(send.end, receive.end), send.begin)
        for event in (send, receive):
            event.waits = min(posted, event.end) - event.begin


def _pairs_of(schedule: Any, rank: int) -> dict[tuple[int, str, int], int]:
    order = getattr(schedule, "pipeline_order_with_comms", None) or getattr(schedule, "pipeline_order", None) or {}
    pairs: dict[tuple[int, str, int], int] = {}
    number = 0
    for action in order.get(rank, ()):
        members = getattr(action, "sub_actions", None)
        if not members:
            continue
        for one in members:
            pairs[one.stage_index, str(one.computation_type.value), one.microbatch_index] = number
        number += 1
    return pairs


def _clock_name() -> str:
    """Processes of one name read one clock: a machine's boot and a time namespace."""
    names = []
    for file in ("/proc/sys/kernel/random/boot_id", "/proc/self/timens_offsets"):
        try:
            names.append(pathlib.Path(file).read_text())
        except OSError:
            names.append("")
    return "".join(names) if names[0] else ""
