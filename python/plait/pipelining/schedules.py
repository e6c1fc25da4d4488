"""The schedule classes, with the arguments of torch's, over plait's orders and plait's runtime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed.pipelining.schedules as torch_schedules
from torch.nn.parallel import DistributedDataParallel

from plait.errors import InvalidInput
from plait.pipelining.program import DONE, Program
from plait.pipelining.stage import refuse_what_is_not_run
from plait.schedule import Schedule

__all__ = [
    "PipelineScheduleMulti",
    "PipelineScheduleSingle",
    "Schedule1F1B",
    "ScheduleDualPipeV",
    "ScheduleGPipe",
    "ScheduleZBVZeroBubble",
    "_PipelineScheduleRuntime",
]

Order = dict[int, list[Any]]


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

    def _order(self) -> Order:
        """A file with communication fills the second alone."""
        order: Order = self.pipeline_order or getattr(self, "pipeline_order_with_comms", {})
        if not order:
            raise InvalidInput("is empty, needed an order for every rank", "pipeline_order")
        return order

    def _schedule(self) -> Schedule:
        """The whole schedule."""
        placement = [self.stage_index_to_group_rank[stage] for stage in sorted(self.stage_index_to_group_rank)]
        order = self._order()
        cells = [["" if action is None else str(action) for action in order[rank]] for rank in sorted(order)]
        return Schedule(cells, placement=placement, stages=len(placement), microbatches=self._n_microbatches)

    def _program(self) -> Program:
        """Made at the first step: a subclass may fill `pipeline_order` after it was made."""
        programs: dict[bool, tuple[Order, Program]] = self.__dict__.setdefault("_programs", {})
        order = self._order()
        made = programs.get(self._has_backward)
        if made is not None and made[0] is order:
            return made[1]
        stages = self._own_stages()
        schedule = self._schedule() if self._has_backward else forwards_of(self._schedule())
        check_stages(schedule, stages[0].group_rank, stages)
        program = Program(schedule, stages[0].group_rank, stages[0].group)
        program.stop_before(_last_backwards(program, stages))
        programs[self._has_backward] = (order, program)
        return program

    def _step_microbatches(
        self,
        arg_mbs: list[Any] | None = None,
        kwarg_mbs: list[Any] | None = None,
        target_mbs: list[Any] | None = None,
        losses: list[Any] | None = None,
        return_outputs: bool = True,
        loss_kwargs: dict[str, Any] | None = None,
    ) -> None:
        arg_mbs, kwarg_mbs = self._check_inputs(arg_mbs, kwarg_mbs, target_mbs, losses)  # type: ignore[attr-defined]
        stages = {stage.stage_index: stage for stage in self._own_stages()}
        added = _GradientsBefore(stages.values()) if self._has_backward and self.scale_grads else None
        step = _Step(self, arg_mbs, kwarg_mbs, target_mbs, return_outputs, loss_kwargs or {}, added)
        program = self._program()
        try:
            step.run(program, stages)
        except BaseException as error:
            _add_note(error, program.where())
            raise
        for stage in stages.values():
            if stage.is_last and return_outputs:
                stage.output_chunks[:] = step.chunks
        if losses is not None and any(stage.is_last for stage in stages.values()) and self._loss_fn is not None:
            losses[:] = step.losses


class _Step:
    """One step of one rank."""

    def __init__(
        self,
        schedule: Any,
        arg_mbs: list[Any],
        kwarg_mbs: list[Any],
        target_mbs: list[Any] | None,
        return_outputs: bool,
        loss_kwargs: dict[str, Any],
        added: _GradientsBefore | None,
    ) -> None:
        self.schedule = schedule
        self.arg_mbs = arg_mbs
        self.kwarg_mbs = kwarg_mbs
        self.target_mbs = target_mbs
        self.return_outputs = return_outputs
        self.loss_kwargs = loss_kwargs
        self.added = added
        self.chunks: list[Any] = [None] * schedule._n_microbatches
        self.losses: list[Any] = [None] * schedule._n_microbatches

    def run(self, program: Program, stages: dict[int, Any]) -> None:
        handle, following, instructions = program.handle, program.next, program.instructions
        for stage in stages.values():
            _begin_step(stage)
        program.begin(handle)
        outputs: list[torch.Tensor] = []
        while True:
            index, inputs = following(handle, outputs, False)
            outputs = []
            if index < 0:
                if index == DONE:
                    return
                continue  # here Python looks at signals
            number, kind, microbatch = instructions[index]
            stage = stages[number]
            if kind == "F":
                outputs = self.forward(stage, microbatch, inputs)
            elif kind == "REDUCE_GRAD":
                self.reduce(stage)
            elif kind in ("B", "I", "W"):
                _arm(stage.submod)

    def forward(self, stage: Any, microbatch: int, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Calls the module; what crosses to the next stage, or the loss."""
        args = self.arg_mbs[microbatch] if stage.is_first else inputs
        submod = stage.submod
        if isinstance(submod, DistributedDataParallel):
            with submod.no_sync():
                output = submod(*args, **self.kwarg_mbs[microbatch])
        else:
            output = submod(*args, **self.kwarg_mbs[microbatch])
        if not stage.is_last:
            return tensors_of(output)
        schedule = self.schedule
        loss = None
        if schedule._loss_fn is not None:
            target = None if self.target_mbs is None else self.target_mbs[microbatch]
            loss = schedule._compute_loss(output, target, self.loss_kwargs)
            self.losses[microbatch] = loss.detach()
        if self.return_outputs:
            self.chunks[microbatch] = _detached(output) if schedule._has_backward else output
        return [loss] if schedule._has_backward and loss is not None else []

    def reduce(self, stage: Any) -> None:
        """REDUCE_GRAD: what FSDP reduces, then the mean over micro-batches."""
        stage.perform_reduce_grad(self.schedule._n_microbatches if self.schedule.scale_grads else 1)
        if self.added is not None:
            self.added.add_back(stage)


class _GradientsBefore:
    """The gradients that a step finds, kept aside so that scaling divides only what the step added."""

    def __init__(self, stages: Any) -> None:
        self.of_stage: dict[int, list[tuple[torch.nn.Parameter, torch.Tensor]]] = {}
        for stage in stages:
            kept = []
            for parameter in stage.submod.parameters():
                if parameter.grad is not None:
                    # DDP's gradients may be views of what it reduces into.
                    copies = isinstance(stage.submod, DistributedDataParallel)
                    kept.append((parameter, parameter.grad.clone() if copies else parameter.grad))
                    parameter.grad = None
            self.of_stage[stage.stage_index] = kept

    def add_back(self, stage: Any) -> None:
        """Once, when the stage's new gradients are whole and scaled."""
        for parameter, before in self.of_stage.pop(stage.stage_index, []):
            parameter.grad = before if parameter.grad is None else before.add_(parameter.grad)


class PipelineScheduleSingle(_Mirror, torch_schedules.PipelineScheduleSingle):
    """Base of the schedules of one stage a rank; see torch's class of this name."""

    _name = ""

    def __init__(self, stage: Any, n_microbatches: int, *args: Any, **kwargs: Any) -> None:
        refuse_what_is_not_run(stage)
        super().__init__(stage, n_microbatches, *args, **kwargs)
        self.stage_index_to_group_rank = dict(stage.stage_index_to_group_rank)

    def _own_stages(self) -> list[Any]:
        return [self._stage]

    def _get_pipeline_order(self) -> Any:
        if not self._name:
            return None
        return order_of(named(self._name, self._stage.group_size, self._n_microbatches, 1))


class PipelineScheduleMulti(_Mirror, torch_schedules.PipelineScheduleMulti):
    """Base of the schedules of several stages a rank. A subclass fills `pipeline_order`."""

    _name = ""

    def __init__(self, stages: Sequence[Any], n_microbatches: int, *args: Any, **kwargs: Any) -> None:
        for stage in stages:
            refuse_what_is_not_run(stage)
        # Not those of torch's named classes: they make torch's order, and refuse torch.compile.
        runtime = isinstance(self, torch_schedules._PipelineScheduleRuntime)
        base = torch_schedules._PipelineScheduleRuntime if runtime else torch_schedules.PipelineScheduleMulti
        base.__init__(self, stages, n_microbatches, *args, **kwargs)
        if self._name:
            schedule = named(self._name, self.pp_group_size, n_microbatches, len(stages))
            self._take(schedule)

    def _take(self, schedule: Schedule) -> None:
        """Its order and its placement."""
        self.pipeline_order = order_of(schedule)
        self.stage_index_to_group_rank = {stage: int(rank) for stage, rank in enumerate(schedule.rank_of_stage)}
        for stage in self._stages:
            stage.stage_index_to_group_rank = self.stage_index_to_group_rank

    def _own_stages(self) -> list[Any]:
        return list(self._stages)


class _PipelineScheduleRuntime(PipelineScheduleMulti, torch_schedules._PipelineScheduleRuntime):
    """Runs what a file or a subclass says; see torch's class of this name."""


class ScheduleGPipe(PipelineScheduleSingle, torch_schedules.ScheduleGPipe):
    """All forwards, then all backwards."""

    _name = "gpipe"


class Schedule1F1B(PipelineScheduleSingle, torch_schedules.Schedule1F1B):
    """One forward, one backward."""

    _name = "1f1b"


class ScheduleZBVZeroBubble(_PipelineScheduleRuntime, torch_schedules.ScheduleZBVZeroBubble):
    """ZB-V: two stages a rank, on a V."""

    _name = "zbv"


class ScheduleDualPipeV(_PipelineScheduleRuntime, torch_schedules.ScheduleDualPipeV):
    """DualPipeV: two stages a rank, on a V; pairs of a forward and a backward."""

    _name = "dualpipe-v"


def named(name: str, ranks: int, microbatches: int, chunks: int) -> Schedule:
    """One of plait's schedules; its errors are `ValueError`, as torch's are."""
    return Schedule(name, ranks=ranks, microbatches=microbatches, chunks=chunks)


def order_of(schedule: Schedule) -> Order:
    """As torch's `pipeline_order`."""
    return {rank: [torch_schedules._Action.from_str(cell) for cell in schedule.cells(rank)]
            for rank in range(schedule.ranks)}


def forwards_of(schedule: Schedule) -> Schedule:
    """Its forwards alone, in its order."""
    members = [[part for cell in schedule.cells(rank) for part in cell.partition(")")[0].lstrip("(").split(";")]
               for rank in range(schedule.ranks)]
    cells = [[part for part in row if part.rstrip("0123456789").endswith("F") and "_" not in part] for row in members]
    return Schedule(cells, placement=schedule.rank_of_stage.tolist(), stages=schedule.stages,
                    microbatches=schedule.microbatches)


def check_stages(schedule: Schedule, rank: int, stages: Sequence[Any]) -> None:
    """The stages that were given are those that the schedule puts on this rank."""
    needed = [stage for stage, holder in enumerate(schedule.rank_of_stage.tolist()) if holder == rank]
    found = sorted(stage.stage_index for stage in stages)
    if found != needed:
        raise InvalidInput(f"found stages {found} on rank {rank}, needed {needed} for {schedule.name}", "stages")


def tensors_of(output: Any) -> list[torch.Tensor]:
    """What a module returned, as what crosses a boundary."""
    outputs = list(output) if isinstance(output, (tuple, list)) else [output]
    for number, one in enumerate(outputs):
        if not isinstance(one, torch.Tensor):
            raise TypeError(f"output {number} of a stage before the last is {type(one).__name__}, needed a tensor")
    return outputs


def _detached(output: Any) -> Any:
    return torch.utils._pytree.tree_map_only(torch.Tensor, torch.Tensor.detach, output)


def _last_backwards(program: Program, stages: Sequence[Any]) -> list[int]:
    """Of stages under DDP: there its reducer is armed, after every other gradient of the stage has been added."""
    last: dict[int, int] = {}
    for index, (stage, kind, _) in enumerate(program.instructions):
        if kind in ("B", "W"):
            last[stage] = index
    return [last[stage.stage_index] for stage in stages
            if isinstance(stage.submod, DistributedDataParallel) and stage.stage_index in last]


def _begin_step(stage: Any) -> None:
    submod = stage.submod
    if isinstance(submod, torch_schedules.FSDPModule):
        # REDUCE_GRAD does what these leave out.
        submod.set_is_last_backward(False)
        submod.set_reshard_after_backward(False)
        submod.set_requires_gradient_sync(False)


def _arm(submod: Any) -> None:
    """The next backward of the stage is its last: its gradients are reduced as they come."""
    submod.require_backward_grad_sync = True
    submod.reducer.prepare_for_backward([])


def _add_note(error: BaseException, note: str) -> None:
    if hasattr(error, "add_note"):
        error.add_note(note)
    else:  # Python 3.10
        error.__notes__ = [*getattr(error, "__notes__", []), note]
