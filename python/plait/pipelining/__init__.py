"""torch.distributed.pipelining under plait's runtime: the same names, arguments and results.

>>> from plait.pipelining import PipelineStage, ScheduleDualPipeV
>>> schedule = ScheduleDualPipeV(stages, n_microbatches=8, loss_fn=loss_fn)
>>> schedule.step(x, target=y, losses=losses)

`Schedule` runs every schedule that plait has, and files. `install` puts these names in the place of torch's, for
scripts that import those.

The order of a schedule is proven before its first step. Modules are called by Python, on the thread that
calls `step`; backwards, messages and their waits are done below it, without Python's lock. What is not defined
here is torch's own.
"""

from typing import Any

import plait_torch

plait_torch.load()

import torch.distributed.pipelining as _torch  # noqa: E402
import torch.distributed.pipelining.microbatch as _torch_microbatch  # noqa: E402
import torch.distributed.pipelining.schedules as _torch_schedules  # noqa: E402
import torch.distributed.pipelining.stage as _torch_stage  # noqa: E402

from plait.pipelining import schedules as _schedules  # noqa: E402
from plait.pipelining.schedules import *  # noqa: E402, F403
from plait.pipelining.stage import PipelineStage  # noqa: E402

__all__ = ["PipelineStage", "install"]
__all__ += _schedules.__all__


def install() -> None:
    """Puts these names in the place of torch.distributed.pipelining's, for the process.

    Call it before a script imports them from torch: what was imported before stays torch's. `Schedule` is no
    name of torch's and is not put there. Calling it again does nothing.
    """
    for module in (_torch, _torch_schedules, _torch_stage):
        for name in __all__:
            if hasattr(module, name):
                setattr(module, name, globals()[name])


def __getattr__(name: str) -> Any:
    """What is not defined here is torch's: chunk specs, `pipeline`, `SplitPoint`, …"""
    for module in (_torch, _torch_microbatch, _torch_schedules, _torch_stage):
        if hasattr(module, name) and not name.startswith("__"):
            return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
