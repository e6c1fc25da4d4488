"""One step of one rank: what the program hands out is done here, in Python, on the thread that called step()."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_map_only

from plait.errors import NotBuilt
from plait.pipelining.gradients import StepGradients
from plait.pipelining.program import DONE, Program
from plait.pipelining.whole import checkpoints_so_far

__all__ = ["Step", "last_backwards"]


class Step:
    """Runs a program once.

    Args:
        schedule: whose loss function it calls.
        stages: this rank's, by index.
        gradients: None if there is no backward.

    Attributes:
        chunks: what the last stage's module returned, by micro-batch.
        losses: by micro-batch, without graph.
    """

    def __init__(
        self,
        schedule: Any,
        stages: dict[int, Any],
        arg_mbs: list[Any],
        kwarg_mbs: list[Any],
        target_mbs: list[Any] | None,
        return_outputs: bool,
        loss_kwargs: dict[str, Any],
        gradients: StepGradients | None,
    ) -> None:
        self.schedule = schedule
        self.stages = stages
        self.arg_mbs = arg_mbs
        self.kwarg_mbs = kwarg_mbs
        self.target_mbs = target_mbs
        self.return_outputs = return_outputs
        self.loss_kwargs = loss_kwargs
        self.gradients = gradients
        self.chunks: list[Any] = [None] * len(arg_mbs)
        self.losses: list[Any] = [None] * len(arg_mbs)

    def run(self, program: Program) -> None:
        handle, following, instructions, stages = program.handle, program.next, program.instructions, self.stages
        program.begin(handle)
        outputs: list[torch.Tensor] = []
        whole = False
        while True:
            index, inputs = following(handle, outputs, whole)
            if index < 0:
                if index == DONE:
                    return
                outputs, whole = [], False
                continue  # here Python looks at signals
            number, kind, microbatch = instructions[index]
            if kind == "F":
                before = checkpoints_so_far()
                outputs = self.forward(stages[number], microbatch, inputs)
                whole = checkpoints_so_far() != before
            else:
                outputs, whole = [], False
                self.other(program, stages[number], kind)

    def forward(self, stage: Any, microbatch: int, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Calls the module. What crosses to the next stage, or the loss."""
        args = self.arg_mbs[microbatch] if stage.is_first else inputs
        submod = stage.submod
        if isinstance(submod, DistributedDataParallel):
            with submod.no_sync():
                output = submod(*args, **self.kwarg_mbs[microbatch])
        else:
            output = submod(*args, **self.kwarg_mbs[microbatch])
        if not stage.is_last:
            return _crossing(stage, output)
        loss = None
        if self.schedule._loss_fn is not None and (self.target_mbs is not None or self.gradients is not None):
            target = None if self.target_mbs is None else self.target_mbs[microbatch]
            loss = self.schedule._compute_loss(output, target, self.loss_kwargs)
            self.losses[microbatch] = loss.detach()
        if self.return_outputs:
            self.chunks[microbatch] = output if self.gradients is None else _detached(output)
        return [] if loss is None or self.gradients is None else [loss]

    def other(self, program: Program, stage: Any, kind: str) -> None:
        """Instructions that call no module."""
        if kind == "REDUCE_GRAD":
            if self.gradients is not None:
                self.gradients.reduce(stage)
        elif kind in ("B", "W"):
            if self.gradients is not None:
                self.gradients.arm(stage, program.whole_backwards()[stage.stage_index] > 0)
        elif kind == "UNSHARD":
            _each_fsdp(stage, "unshard")
        elif kind == "RESHARD":
            _each_fsdp(stage, "reshard")


def last_backwards(program: Program, stages: list[Any]) -> list[int]:
    """Of stages under DDP, the instruction that adds the stage's last gradients: before it DDP is armed."""
    last: dict[int, int] = {}
    for index, (stage, kind, _) in enumerate(program.instructions):
        if kind in ("B", "W"):
            last[stage] = index
    under_ddp = [stage.stage_index for stage in stages if isinstance(stage.submod, DistributedDataParallel)]
    return [last[index] for index in under_ddp if index in last]


def _crossing(stage: Any, output: Any) -> list[torch.Tensor]:
    outputs = list(output) if isinstance(output, (tuple, list)) else [output]
    for number, one in enumerate(outputs):
        if not isinstance(one, torch.Tensor):
            raise TypeError(
                f"output {number} of stage {stage.stage_index} is {type(one).__name__}, needed a tensor: "
                "only the last stage returns something else"
            )
        if isinstance(one, DTensor):
            raise NotBuilt("a DTensor cannot cross to the next stage, needed its to_local()", f"stage {stage.stage_index}")
    return outputs


def _detached(output: Any) -> Any:
    return output.detach() if isinstance(output, torch.Tensor) else tree_map_only(torch.Tensor, torch.Tensor.detach, output)


def _each_fsdp(stage: Any, method: str) -> None:
    from torch.distributed.fsdp import FSDPModule

    for module in stage.submod.modules():
        if isinstance(module, FSDPModule):
            getattr(module, method)()
