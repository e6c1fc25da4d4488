"""plait: compiles, proves, prices and draws schedules of pipeline-parallel training.

This layer needs no torch: `Schedule` and what one does with it. `plait.pipelining`, which is imported by
itself, runs schedules on torch modules.

>>> import plait
>>> schedule = plait.Schedule("dualpipe-v", ranks=4, microbatches=8)
>>> schedule.check()
>>> schedule.simulate(plait.Costs(f_ns=100, i_ns=100, w_ns=80)).idle_share
"""

from plait import _core
from plait.comparison import Comparison, compare
from plait.costs import Costs
from plait.errors import CheckFailed, Error, FileProblem, Finding, InvalidInput, Note, NotBuilt
from plait.metrics import MetricInfo, metric_fields, read_metrics
from plait.price import CriticalStep, Price
from plait.recording import Recording, record
from plait.schedule import ACTION, Proof, Schedule
from plait.tables import ScheduleInfo, action_types, dialects, passes, placements, rules, schedules
from plait.timeline import StepMetrics, Timeline
from plait.view import view

__version__: str = _core.VERSION

__all__ = [
    "ACTION",
    "CheckFailed",
    "Comparison",
    "Costs",
    "CriticalStep",
    "Error",
    "FileProblem",
    "Finding",
    "InvalidInput",
    "MetricInfo",
    "NotBuilt",
    "Note",
    "Price",
    "Proof",
    "Recording",
    "Schedule",
    "ScheduleInfo",
    "StepMetrics",
    "Timeline",
    "action_types",
    "compare",
    "dialects",
    "metric_fields",
    "passes",
    "placements",
    "read_metrics",
    "record",
    "rules",
    "schedules",
    "view",
]
