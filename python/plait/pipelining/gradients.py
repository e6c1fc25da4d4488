"""What is done to the gradients of a rank's stages around a step: scaling, and what DDP and FSDP reduce."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_map_only

__all__ = ["StepGradients"]

Kept = list[tuple[torch.nn.Parameter, torch.Tensor]]


class StepGradients:
    """The gradients of one step, from its first F to the REDUCE_GRAD of its last stage.

    Scaling divides what this step adds and nothing else: what was there before is kept aside until then.
    A parameter that several stages of the rank hold is divided once, with the last of them.

    Args:
        stages: this rank's.
        parameters: of each stage, by its index.
        divisor: M, or 1.
        finalize: False leaves the reduction over replicas to a later step.
    """

    def __init__(
        self,
        stages: Iterable[Any],
        parameters: dict[int, list[torch.nn.Parameter]],
        divisor: int,
        finalize: bool,
    ) -> None:
        self.open = {stage.stage_index: stage for stage in stages}
        self.parameters = parameters
        self.divisor = divisor
        self.finalize = finalize
        self.by_hand: set[int] = set()  # stages whose DDP was not armed
        self.before: dict[int, Kept] = {}
        held: set[int] = set()
        for index, stage in self.open.items():
            if isinstance(stage.submod, FSDPModule):
                _keep_hooks_off_cuts(stage.submod)
                # REDUCE_GRAD does what these leave out.
                stage.submod.set_is_last_backward(False)
                stage.submod.set_reshard_after_backward(False)
                stage.submod.set_requires_gradient_sync(False)
            if divisor != 1 and not _awaits_reduction(stage):
                self.before[index] = self._keep_aside(stage, held)

    def _keep_aside(self, stage: Any, held: set[int]) -> Kept:
        # DDP's gradients may be views of what it reduces into.
        copies = isinstance(stage.submod, DistributedDataParallel)
        kept: Kept = []
        for parameter in self.parameters[stage.stage_index]:
            if parameter.grad is None or id(parameter) in held:
                continue
            held.add(id(parameter))
            kept.append((parameter, parameter.grad.clone() if copies else parameter.grad))
            parameter.grad = None
        return kept

    def arm(self, stage: Any, ran_whole: bool) -> None:
        """Before the last backward of a stage under DDP: its gradients are reduced as they come.

        Not where I's ran whole backwards, then the last gradients may have come before; nor where DDP would
        look at the graph of an output.
        """
        if not self.finalize:
            return
        if ran_whole or stage.submod.find_unused_parameters or stage.submod.static_graph:
            self.by_hand.add(stage.stage_index)
            return
        stage.submod.require_backward_grad_sync = True
        stage.submod.reducer.prepare_for_backward([])

    def reduce(self, stage: Any) -> None:
        """REDUCE_GRAD of a stage."""
        index, submod = stage.stage_index, stage.submod
        if self.finalize:
            stage.perform_reduce_grad(1)
            if index in self.by_hand:
                _reduce_by_hand(submod, self.parameters[index])
        del self.open[index]
        if isinstance(submod, DistributedDataParallel):
            submod._plait_awaits_reduction = not self.finalize
            if not self.finalize:
                return
        if self.divisor == 1:
            return
        elsewhere = {id(p) for other in self.open for p in self.parameters[other]} if self.open else set()
        for parameter in self.parameters[index]:
            if parameter.grad is not None and id(parameter) not in elsewhere:
                parameter.grad.div_(self.divisor)
        if not self.open:
            self._add_back()

    def _add_back(self) -> None:
        for kept in self.before.values():
            for parameter, before in kept:
                parameter.grad = before if parameter.grad is None else before.add_(parameter.grad)
        self.before.clear()


def _keep_hooks_off_cuts(submod: torch.nn.Module) -> None:
    """Outputs of FSDP's modules get a node of their own, before FSDP hooks on them.

    It would hook on the node of the module's last operation, which then could not be split (docs/split.md).
    """
    for module in submod.modules():
        if isinstance(module, FSDPModule) and not hasattr(module, "_plait_own_node"):
            module._plait_own_node = module.register_forward_hook(_through_own_node, prepend=True)


class _OwnNode(torch.autograd.Function):
    """Hands its input on. Its output is no view, of which FSDP warns."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


def _through_own_node(module: Any, args: Any, output: Any) -> Any:
    return tree_map_only(torch.Tensor, lambda tensor: _OwnNode.apply(tensor) if tensor.requires_grad else tensor, output)


def _awaits_reduction(stage: Any) -> bool:
    """An earlier step has added gradients under DDP that are neither reduced nor scaled."""
    return bool(getattr(stage.submod, "_plait_awaits_reduction", False))


def _reduce_by_hand(submod: Any, parameters: list[torch.nn.Parameter]) -> None:
    """What DDP's reducer does, parameter by parameter: the mean over its group.

    A parameter that no replica has used keeps its gradient as it is.
    """
    group = submod.process_group
    used = torch.tensor([float(parameter.grad is not None) for parameter in parameters])
    dist.all_reduce(used, group=group)
    for parameter, count in zip(parameters, used.tolist()):
        if count == 0:
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        parameter.grad.div_(dist.get_world_size(group))
        dist.all_reduce(parameter.grad, group=group)
