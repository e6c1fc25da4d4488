"""What the tests beside torch.distributed.pipelining share: its schedules and ours as text, its loader without processes."""

import contextlib
import io
import pathlib
import subprocess
import unittest.mock

import command
import torch
from torch.distributed.pipelining import PipelineStage
from torch.distributed.pipelining._schedule_visualizer import get_schedule_ops
from torch.distributed.pipelining.schedules import _PipelineScheduleRuntime


# What this torch reads and writes.
DIALECT = "torch-2.15" if tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 15) else "torch-2.13"


def plait(*arguments: object) -> subprocess.CompletedProcess:
    """A list that `make` writes is in this torch's dialect."""
    dialect = ["--dialect", DIALECT] if arguments[0] == "make" else []
    return subprocess.run([command.PLAIT, *map(str, arguments), *dialect], capture_output=True, text=True, check=False)


def made(name: str, ranks: int, microbatches: int, *more: object) -> str:
    result = plait("make", name, "--ranks", ranks, "--microbatches", microbatches, *more)
    if result.returncode != 0:
        raise AssertionError(result.stderr)
    return result.stdout


def text_of(lists: list[list]) -> str:
    return "".join(",".join("" if action is None else str(action) for action in one) + "\n" for one in lists)


def torch_order(name: str, ranks: int, microbatches: int, chunks: int, with_comms: bool = False) -> str | None:
    """torch's schedule as text; None where it refuses the shape."""
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            return text_of(get_schedule_ops(name, ranks, microbatches, num_stages_per_rank=chunks, with_comms=with_comms))
        except (ValueError, AssertionError):
            return None


def load(file: pathlib.Path, form: str, ranks: int, stages: int, microbatches: int) -> _PipelineScheduleRuntime:
    """torch's runtime with a file of ours, over stages that are none."""
    stage = unittest.mock.create_autospec(PipelineStage, instance=True)
    stage.group_rank, stage.group_size, stage.num_stages, stage.submod = 0, ranks, stages, None
    runtime = _PipelineScheduleRuntime([stage], microbatches)
    runtime._load_csv(str(file), format=form)
    return runtime
