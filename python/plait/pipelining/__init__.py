"""torch.distributed.pipelining under plait's runtime: the same names, arguments and results.

>>> from plait.pipelining import PipelineStage, ScheduleDualPipeV
>>> schedule = ScheduleDualPipeV(stages, n_microbatches=8, loss_fn=loss_fn)
>>> schedule.step(x, target=y, losses=losses)

The order of a schedule is proven before its first step. Modules are called by Python, on the thread that
calls `step`; backwards, messages and their waits are done below it, without Python's lock. What is not defined
here is torch's own.
"""

import plait_torch

plait_torch.load()

from plait.pipelining.schedules import (  # noqa: E402
    PipelineScheduleMulti,
    PipelineScheduleSingle,
    Schedule1F1B,
    ScheduleDualPipeV,
    ScheduleGPipe,
    ScheduleZBVZeroBubble,
    _PipelineScheduleRuntime,
)
from plait.pipelining.stage import PipelineStage  # noqa: E402

__all__ = [
    "PipelineScheduleMulti",
    "PipelineScheduleSingle",
    "PipelineStage",
    "Schedule1F1B",
    "ScheduleDualPipeV",
    "ScheduleGPipe",
    "ScheduleZBVZeroBubble",
    "_PipelineScheduleRuntime",
]
