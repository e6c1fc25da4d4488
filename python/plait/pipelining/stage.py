"""A stage: torch's, of which plait uses the module, the place and the group."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed.pipelining.stage as torch_stage

from plait.errors import NotBuilt

__all__ = ["PipelineStage"]


class PipelineStage(torch_stage.PipelineStage):
    """One stage on this rank, with the arguments of torch's class.

    `submod` may be replaced between steps. Shapes need not be given and are not probed: they are learned
    from what the module returns, and may change from step to step.

    Raises:
        NotBuilt: `dw_builder`, as plait splits backwards itself (docs/split.md); a device that is no CPU.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        refuse_what_is_not_run(self)


def refuse_what_is_not_run(stage: Any) -> None:
    """Of a stage of torch's own, too."""
    if getattr(stage, "dw_builder", None) is not None:
        raise NotBuilt("is not supported, plait splits the backward of a stage itself", argument="dw_builder")
    device = torch.device(stage.device)
    if device.type != "cpu":
        raise NotBuilt(f"found {device}, needed cpu: plait.pipelining runs over Gloo", argument="device")
