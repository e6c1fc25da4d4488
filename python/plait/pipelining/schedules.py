"""The schedule classes, with the arguments of torch's, over plait's orders and plait's runtime."""

from __future__ import annotations

import logging
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed.pipelining.schedules as torch_schedules
from torch.distributed.pipelining.microbatch import TensorChunkSpec

# Torch's own: install() replaces them in torch's module.
from torch.distributed.pipelining.schedules import PipelineScheduleMulti as _TorchMulti
from torch.distributed.pipelining.schedules import PipelineScheduleSingle as _TorchSingle
from torch.distributed.pipelining.schedules import _Action
from torch.distributed.pipelining.schedules import _PipelineScheduleRuntime as _TorchRuntime
from torch.nn.parallel import DistributedDataParallel

import plait.schedule
from plait.costs import CostsLike
from plait.errors import InvalidInput, NotBuilt
from plait.pipelining.gradients import StepGradients
from plait.pipelining.program import Program
from plait.pipelining.stage import refuse_what_is_not_run
from plait.pipelining.step import Step, last_backwards
from plait.tables import schedules as table_of_schedules

__all__ = [
    "PipelineScheduleMulti",
    "PipelineScheduleSingle",
    "Schedule",
    "Schedule1F1B",
    "ScheduleDualPipeV",
    "ScheduleGPipe",
    "ScheduleInterleaved1F1B",
    "ScheduleInterleavedZeroBubble",
    "ScheduleLoopedBFS",
    "ScheduleZBVZeroBubble",
    "_PipelineScheduleRuntime",
    "_ScheduleForwardOnly",
    "get_schedule_class",
]

Order = dict[int, list[Any]]
_logger = logging.getLogger("plait.pipelining")


class _Mirror:
    """What every class here does in place of torch's runtime; its other base is the class of torch."""

    pipeline_order: Any
    stage_index_to_group_rank: dict[int, int]
    _n_microbatches: int
    _loss_fn: Callable[..., torch.Tensor] | None
    _has_backward: bool
    scale_grads: bool

    def _own_stages(self) -> list[Any]:
        """This rank's stages."""
        raise NotImplementedError

    def step(
        self,
        *args: Any,
        target: Any = None,
        losses: list[Any] | None = None,
        return_outputs: bool = True,
        loss_kwargs: dict[str, Any] | None = None,
        arg_mbs: list[Any] | None = None,
        kwarg_mbs: list[Any] | None = None,
        target_mbs: list[Any] | None = None,
        finalize_gradients: bool = True,
        **kwargs: Any,
    ) -> Any:
        """One step of the whole batch: forwards, losses, backwards, in the schedule's order.

        Args:
            args: of the first stage's module, on its rank; split along dimension 0, or by the chunk spec.
            kwargs: of this rank's modules, whatever their stage; split alike. None and what is no tensor is
                given to every micro-batch.
            target: of the loss function, on the last stage's rank; split along dimension 0.
            losses: a list that is filled with the losses in order of micro-batches, on the last stage's rank.
            return_outputs: False: what the last stage returns is not kept.
            loss_kwargs: further arguments of the loss function.
            arg_mbs, kwarg_mbs, target_mbs: the same already split, one for each micro-batch.
            finalize_gradients: False: a later step reduces over replicas (DDP, FSDP) what this one adds.

        Returns:
            On the last stage's rank its outputs, merged; else None.

        Raises:
            CheckFailed: in the first step, an order that breaks a rule.
            Whatever a module raises, as itself, with a note of the action and the rank. A rank that waits
            for another longer than the group's timeout raises RuntimeError with the action it waits in.
        """
        if self._has_backward and getattr(self, "_backward_requires_autograd", True) and not torch.is_grad_enabled():
            raise RuntimeError(
                "step() requires gradients to be enabled for backward computation; it should not be used under "
                "torch.no_grad() context. Please call eval() instead."
            )
        stages = self._own_stages()
        for stage in stages:
            stage.has_backward = self._has_backward
            stage.clear_runtime_states()
        if arg_mbs is None and kwarg_mbs is None:
            arg_mbs, kwarg_mbs = self._split_inputs(args, kwargs)
        elif args or kwargs:
            raise InvalidInput("found a batch as well, needed the one or the other", "arg_mbs, kwarg_mbs")
        if target is not None and target_mbs is None:
            target_mbs = _split_target(target, self._n_microbatches)
        self.__dict__["_finalizes"] = finalize_gradients
        self._step_microbatches(arg_mbs, kwarg_mbs, target_mbs, losses, return_outputs, loss_kwargs)
        for stage in stages:
            if stage.is_last and return_outputs:
                return self._merge_outputs(stage.output_chunks)
        return None

    def _step_microbatches(
        self,
        arg_mbs: list[Any] | None = None,
        kwarg_mbs: list[Any] | None = None,
        target_mbs: list[Any] | None = None,
        losses: list[Any] | None = None,
        return_outputs: bool = True,
        loss_kwargs: dict[str, Any] | None = None,
    ) -> None:
        arg_mbs, kwarg_mbs = self._check_inputs(arg_mbs, kwarg_mbs, target_mbs, losses)
        assert arg_mbs is not None and kwarg_mbs is not None
        stages = {stage.stage_index: stage for stage in self._own_stages()}
        program = self._program()
        gradients = self._gradients(stages) if self._has_backward else None
        step = Step(self, stages, arg_mbs, kwarg_mbs, target_mbs, return_outputs, loss_kwargs or {}, gradients)
        try:
            step.run(program)
        except BaseException as error:
            _add_note(error, program.where())
            raise
        self._say_whole(program)
        for stage in stages.values():
            if stage.is_last and return_outputs:
                stage.output_chunks[:] = step.chunks
            if stage.is_last and losses is not None and self._loss_fn is not None:
                losses[:] = step.losses

    def _gradients(self, stages: dict[int, Any]) -> StepGradients:
        # Parameters are looked for in the first step only, and again of a module that was put in another's place.
        known: dict[int, tuple[Any, list[torch.nn.Parameter]]] = self.__dict__.setdefault("_parameters", {})
        for index, stage in stages.items():
            if index not in known or known[index][0] is not stage.submod:
                known[index] = (stage.submod, list(stage.submod.parameters()))
        divisor = self._n_microbatches if self.scale_grads else 1
        parameters = {index: known[index][1] for index in stages}
        return StepGradients(stages.values(), parameters, divisor, self.__dict__.get("_finalizes", True))

    def _order(self) -> Order:
        """A file with communication fills the second alone."""
        order: Order = self.pipeline_order or getattr(self, "pipeline_order_with_comms", {})
        if not order:
            raise InvalidInput("is empty, needed an order for every rank", "pipeline_order")
        return order

    def _schedule(self) -> plait.schedule.Schedule:
        """The whole schedule: the one that was given, unless `pipeline_order` has been replaced since."""
        given, order = self.__dict__.get("_given", (None, None))
        if given is not None and order is self.pipeline_order:
            schedule: plait.schedule.Schedule = given
            return schedule
        order = self._order()
        placement = [self.stage_index_to_group_rank[stage] for stage in sorted(self.stage_index_to_group_rank)]
        cells = [["" if action is None else str(action) for action in order[rank]] for rank in sorted(order)]
        return plait.schedule.Schedule(
            cells, placement=placement, stages=len(placement), microbatches=self._n_microbatches
        )

    def _program(self) -> Program:
        """Made at the first step: a subclass may fill `pipeline_order` after it was made."""
        programs: dict[bool, tuple[Any, list[bool], Program]] = self.__dict__.setdefault("_programs", {})
        order, stages = self._order(), self._own_stages()
        under_ddp = [isinstance(stage.submod, DistributedDataParallel) for stage in stages]
        made = programs.get(self._has_backward)
        if made is not None and made[0] is order and made[1] == under_ddp:
            return made[2]
        schedule = self._schedule()
        if not self._has_backward:
            schedule = _forwards_of(schedule)
        _check_stages(schedule, stages[0].group_rank, stages)
        schedule.check(messages=True)  # proven below again: here its findings are objects
        program = Program(schedule, stages[0].group_rank, stages[0].group)
        program.stop_before(last_backwards(program, stages))
        programs[self._has_backward] = (order, under_ddp, program)
        return program

    def _take(self, schedule: plait.schedule.Schedule) -> None:
        """Its order and its placement."""
        if schedule.rank_of_stage.ndim != 1:
            raise NotBuilt(f"{schedule.name} holds every stage twice, which plait.pipelining cannot run", "schedule")
        self.pipeline_order = self._order_of(schedule)
        self.__dict__["_given"] = (schedule, self.pipeline_order)
        self.__dict__.pop("_programs", None)
        self.stage_index_to_group_rank = dict(enumerate(schedule.rank_of_stage.tolist()))
        for stage in self._own_stages():
            stage.stage_index_to_group_rank = self.stage_index_to_group_rank

    def __getattr__(self, name: str) -> Any:
        """`pipeline_order_with_comms` when it is asked for: torch's lowering, for the torch that is imported."""
        if name != "pipeline_order_with_comms" or not self.__dict__.get("pipeline_order"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return self._order_of(self._lowered())

    def _lowered(self) -> plait.schedule.Schedule:
        schedule = self._schedule()
        # Not schedule.lowered: on one rank no value crosses, and there is nothing to lower but for UNSHARD.
        done = any("UNSHARD" in cell or "SEND" in cell for rank in range(schedule.ranks) for cell in schedule.cells(rank))
        return schedule if done else schedule.lower(dialect=_dialect())

    @staticmethod
    def _order_of(schedule: plait.schedule.Schedule) -> Order:
        knows_waits = _dialect() == "torch-2.15"  # an older torch reads 0WAIT_SEND_F1 as 0W
        return {
            rank: [_Action.from_str(cell) if cell else None
                   for cell in schedule.cells(rank) if knows_waits or "WAIT" not in cell]
            for rank in range(schedule.ranks)
        }

    def _say_whole(self, program: Program) -> None:
        if "_said_whole" in self.__dict__:
            return
        whole = {stage: count for stage, count in enumerate(program.whole_backwards()) if count > 0}
        if not whole:
            return
        self.__dict__["_said_whole"] = True
        counts = ", ".join(f"{count} a step of stage {stage}" for stage, count in whole.items())
        _logger.warning(
            "backwards that are not split, but run whole at their I: %s (compiled, checkpointed or custom functions, "
            "hooks: docs/split.md)", counts
        )


class PipelineScheduleSingle(_Mirror, _TorchSingle):
    """Base of the schedules of one stage a rank; see torch's class of this name."""

    _name = ""

    def __init__(self, stage: Any, n_microbatches: int, *args: Any, **kwargs: Any) -> None:
        refuse_what_is_not_run(stage)
        self._stage = stage
        super().__init__(stage, n_microbatches, *args, **kwargs)
        if self._name:
            self._take(_named(self._name, stage.group_size, n_microbatches, 1))
        else:
            self.stage_index_to_group_rank = dict(stage.stage_index_to_group_rank)

    def _own_stages(self) -> list[Any]:
        return [self._stage]

    def _get_pipeline_order(self) -> Any:
        """None: torch asks in its __init__; a subclass may say."""
        return None


class PipelineScheduleMulti(_Mirror, _TorchMulti):
    """Base of the schedules of several stages a rank. A subclass fills `pipeline_order`."""

    _name = ""

    def __init__(self, stages: Sequence[Any], n_microbatches: int, *args: Any, **kwargs: Any) -> None:
        for stage in stages:
            refuse_what_is_not_run(stage)
        # Not those of torch's named classes: they make torch's order, and refuse torch.compile.
        base = _TorchRuntime if isinstance(self, _TorchRuntime) else _TorchMulti
        base.__init__(self, stages, n_microbatches, *args, **kwargs)
        if self._name:
            self._take(_named(self._name, self.pp_group_size, n_microbatches, len(stages)))

    def _own_stages(self) -> list[Any]:
        return list(self._stages)

    def _load_csv(self, filename: str | os.PathLike[str], format: str = "compute_only") -> None:
        """A schedule's file in any form that plait reads; what it lacks for a run is inserted."""
        if format not in ("compute_only", "compute_comms"):
            raise NotImplementedError(f"{format=} is not implemented")
        self._take(
            plait.schedule.Schedule(
                pathlib.Path(filename), ranks=self.pp_group_size, stages=self._num_stages,
                microbatches=self._n_microbatches,
            )
        )

    def _dump_csv(self, filename: str | os.PathLike[str], format: str | None = None) -> None:
        """As torch's classes write it: a runtime's with its communication unless asked otherwise."""
        runtime = isinstance(self, _TorchRuntime)
        lowered = (format or ("compute_comms" if runtime else "compute_only")) == "compute_comms"
        (self._lowered() if lowered else self._schedule()).save(filename, form="csv", dialect=_dialect())

    def register_custom_function(self, computation_type: Any, custom_function: Any) -> None:
        """Refused: actions are not run by Python."""
        raise NotBuilt("is not supported, plait runs a schedule's actions itself", "register_custom_function")


class _PipelineScheduleRuntime(PipelineScheduleMulti, _TorchRuntime):
    """Runs what a file or a subclass says; see torch's class of this name."""


class _ScheduleForwardOnly(PipelineScheduleSingle, torch_schedules._ScheduleForwardOnly):
    """Forwards alone."""

    _name = "forward-only"


class ScheduleGPipe(PipelineScheduleSingle, torch_schedules.ScheduleGPipe):
    """All forwards, then all backwards."""

    _name = "gpipe"


class Schedule1F1B(PipelineScheduleSingle, torch_schedules.Schedule1F1B):
    """One forward, one backward. Needs M >= P."""

    _name = "1f1b"


class ScheduleInterleaved1F1B(_PipelineScheduleRuntime, torch_schedules.ScheduleInterleaved1F1B):
    """1F1B over several stages a rank, in rounds. Needs M a multiple of max(1, M div P)."""

    _name = "interleaved-1f1b"


class ScheduleLoopedBFS(_PipelineScheduleRuntime, torch_schedules.ScheduleLoopedBFS):
    """Stage after stage; backwards in reverse."""

    _name = "looped-bfs"

    def __init__(
        self,
        stages: Sequence[Any],
        n_microbatches: int,
        loss_fn: Any = None,
        output_merge_spec: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        if args:  # torch's order of arguments is this class's own
            kwargs.update(zip(("scale_grads", "backward_requires_autograd", "defer_pp_recv"), args))
        super().__init__(stages, n_microbatches, loss_fn, output_merge_spec=output_merge_spec, **kwargs)


class ScheduleInterleavedZeroBubble(_PipelineScheduleRuntime, torch_schedules.ScheduleInterleavedZeroBubble):
    """ZB1P: interleaved, with I and W apart. Needs M a multiple of max(1, M div P)."""

    _name = "interleaved-zero-bubble"


class ScheduleZBVZeroBubble(_PipelineScheduleRuntime, torch_schedules.ScheduleZBVZeroBubble):
    """ZB-V: two stages a rank, on a V."""

    _name = "zbv"


class ScheduleDualPipeV(_PipelineScheduleRuntime, torch_schedules.ScheduleDualPipeV):
    """DualPipeV: two stages a rank, on a V; pairs of a forward and a backward. Needs M >= 2P."""

    _name = "dualpipe-v"


class Schedule(_PipelineScheduleRuntime):
    """Any schedule: a name of `plait.schedules()`, a file, a text, lists, or a `plait.Schedule`.

    Args:
        source: as `plait.Schedule` takes it.
        stages: this rank's; one, or a list.
        n_microbatches: M.
        loss_fn: of the last stage's output and its target; without one there is no backward.
        any_m, costs, max_activations: of a schedule by name, as `plait.Schedule` takes them.
        args_chunk_spec, kwargs_chunk_spec, output_merge_spec, scale_grads: as torch's classes take them.

    Raises:
        InvalidInput: what `plait.Schedule` refuses; stages that the schedule does not put on this rank.
        NotBuilt: a schedule that holds every stage twice (dualpipe, chimera).

    >>> Schedule("zbv-auto", stages, 8, loss_fn, costs={"f_ns": 100, "i_ns": 100, "w_ns": 80})
    """

    def __init__(
        self,
        source: Any,
        stages: Any,
        n_microbatches: int,
        loss_fn: Callable[..., torch.Tensor] | None = None,
        *,
        any_m: bool = False,
        costs: CostsLike = None,
        max_activations: int | None = None,
        args_chunk_spec: tuple[TensorChunkSpec, ...] | None = None,
        kwargs_chunk_spec: dict[str, TensorChunkSpec] | None = None,
        output_merge_spec: Any = None,
        scale_grads: bool = True,
    ) -> None:
        own = list(stages) if isinstance(stages, (list, tuple)) else [stages]
        super().__init__(
            own, n_microbatches, loss_fn, args_chunk_spec, kwargs_chunk_spec, output_merge_spec, scale_grads=scale_grads
        )
        if isinstance(source, plait.schedule.Schedule):
            schedule = source
        elif isinstance(source, str) and plait.schedule.is_name(source):
            schedule = plait.schedule.Schedule(
                source, ranks=self.pp_group_size, microbatches=n_microbatches, chunks=len(own), any_m=any_m, costs=costs,
                max_activations=max_activations,
            )
        else:
            schedule = plait.schedule.Schedule(
                source, ranks=self.pp_group_size, stages=self._num_stages, microbatches=n_microbatches
            )
        if schedule.microbatches != n_microbatches:
            raise InvalidInput(
                f"found {n_microbatches}, needed {schedule.microbatches} for {schedule.name}", argument="n_microbatches"
            )
        self._take(schedule)
        _check_stages(schedule, self.rank, own)


_CLASSES = {
    "1F1B": Schedule1F1B,
    "Interleaved1F1B": ScheduleInterleaved1F1B,
    "GPipe": ScheduleGPipe,
    "LoopedBFS": ScheduleLoopedBFS,
    "InterleavedZeroBubble": ScheduleInterleavedZeroBubble,
    "PipelineScheduleSingle": PipelineScheduleSingle,
    "PipelineScheduleMulti": PipelineScheduleMulti,
    "ZBVZeroBubble": ScheduleZBVZeroBubble,
    "DualPipeV": ScheduleDualPipeV,
}


def get_schedule_class(schedule_name: str) -> Any:
    """The class of a schedule, by torch's name or by plait's, in any case.

    Of a schedule that torch lacks, as "v-half", a class is made: of one stage a rank it is a
    `PipelineScheduleSingle`, else a `PipelineScheduleMulti`.

    Raises:
        ValueError: an unknown name; says which there are.
    """
    wanted = schedule_name.lower()
    for name, kind in _CLASSES.items():
        if wanted in (name.lower(), getattr(kind, "_name", "") or None):
            return kind
    info = table_of_schedules().get(wanted)
    if info is None:
        known = [*_CLASSES, *table_of_schedules()]
        raise ValueError(f"Unknown schedule name '{schedule_name}'. The valid options are {known}")
    if wanted not in _MADE:
        base: Any = PipelineScheduleSingle if info.chunks == 1 else _PipelineScheduleRuntime
        on_a_v = plait.schedule.Schedule(wanted, ranks=2, microbatches=12).placement == "v"
        meta: Any = _OnAV if on_a_v else type(base)
        title = "Schedule" + "".join(word.capitalize() for word in wanted.split("-"))
        _MADE[wanted] = meta(title, (base,), {"_name": wanted, "__module__": __name__, "__doc__": info.summary})
    return _MADE[wanted]


_MADE: dict[str, Any] = {}


class _OnAV(type(_PipelineScheduleRuntime)):  # type: ignore[misc]
    """Of the classes that get_schedule_class() makes for schedules on a V.

    torchtitan places the stages on a V if the class is "in (ScheduleZBVZeroBubble, ScheduleDualPipeV)".
    """

    def __eq__(cls, other: object) -> bool:
        return cls is other or other is ScheduleZBVZeroBubble

    def __hash__(cls) -> int:
        return id(cls)


def _named(name: str, ranks: int, microbatches: int, chunks: int) -> plait.schedule.Schedule:
    """One of plait's schedules; its errors are `ValueError`, as torch's are."""
    return plait.schedule.Schedule(name, ranks=ranks, microbatches=microbatches, chunks=chunks)


def _forwards_of(schedule: plait.schedule.Schedule) -> plait.schedule.Schedule:
    """Its forwards alone, in its order."""
    if schedule.forward_only:
        return schedule
    cells = []
    for rank in range(schedule.ranks):
        parts = [part for cell in schedule.cells(rank) for part in cell.partition(")")[0].lstrip("(").split(";")]
        cells.append([part for part in parts if part.strip("0123456789") == "F"])
    return plait.schedule.Schedule(
        cells, placement=schedule.rank_of_stage.tolist(), stages=schedule.stages, microbatches=schedule.microbatches
    )


def _check_stages(schedule: plait.schedule.Schedule, rank: int, stages: Sequence[Any]) -> None:
    """The stages that were given are those that the schedule puts on this rank."""
    needed = [stage for stage, holder in enumerate(schedule.rank_of_stage.tolist()) if holder == rank]
    found = sorted(stage.stage_index for stage in stages)
    if found != needed:
        raise InvalidInput(f"found stages {found} on rank {rank}, needed {needed} for {schedule.name}", argument="stages")


def _dialect() -> str:
    """Of the torch that is imported."""
    version = tuple(int(part) for part in str(torch.__version__).split(".")[:2])
    return "torch-2.15" if version >= (2, 15) else "torch-2.13"


def _split_target(target: Any, microbatches: int) -> list[Any]:
    split = getattr(torch_schedules, "_split_tensor", None)
    if split is None:
        return list(torch.tensor_split(target, microbatches))
    return list(split(target, TensorChunkSpec(0), microbatches))


def _add_note(error: BaseException, note: str) -> None:
    if hasattr(error, "add_note"):
        error.add_note(note)
    else:  # Python 3.10
        error.__notes__ = [*getattr(error, "__notes__", []), note]
