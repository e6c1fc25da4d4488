"""plait.pipelining against torch.distributed.pipelining, in real processes over Gloo, to the bit."""

from __future__ import annotations

import importlib
import importlib.util
import pathlib
import tempfile
import unittest
from typing import Any

import plait_torch
from processes import on_ranks

MICROBATCHES, WIDTH = 8, 16
V_SCHEDULES = ("ScheduleZBVZeroBubble", "ScheduleDualPipeV")
LOOPS = ("ScheduleInterleaved1F1B", "ScheduleLoopedBFS", "ScheduleInterleavedZeroBubble")
NAMES = ("ScheduleGPipe", "Schedule1F1B", *V_SCHEDULES, *LOOPS)
OURS, TORCHS = "plait.pipelining", "torch.distributed.pipelining"
WITH_TORCH = unittest.skipUnless(
    plait_torch.built_for() and importlib.util.find_spec("torch"), "plait was built without torch"
)


def mlp(seed: int, width: int = WIDTH) -> Any:
    """A stage with the same numbers wherever it is made."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))


def v_stages(pipelining: Any, rank: int, ranks: int, make: Any = mlp, group: Any = None) -> list[Any]:
    """Two stages a rank on a V."""
    import torch

    return [
        pipelining.PipelineStage(make(i), i, 2 * ranks, torch.device("cpu"), group=group)
        for i in (rank, 2 * ranks - 1 - rank)
    ]


def batch(rows: int = 2 * MICROBATCHES, width: int = WIDTH, seed: int = 9) -> Any:
    import torch

    torch.manual_seed(seed)
    return torch.randn(rows, width), torch.randn(rows, width)


def gradients_of(stages: list[Any]) -> dict[str, Any]:
    return {
        f"{stage.stage_index}.{name}": None if value.grad is None else value.grad.tolist()
        for stage in stages
        for name, value in stage.submod.named_parameters()
    }


def step(schedule: Any, stages: list[Any], x: Any, y: Any, **options: Any) -> dict[str, Any]:
    """One step: losses, merged outputs, gradients."""
    losses: list[Any] = []
    inputs = [x] if any(stage.is_first for stage in stages) else []
    target = y if any(stage.is_last for stage in stages) else None
    output = schedule.step(*inputs, target=target, losses=losses, **options)
    return {
        "losses": [loss.item() for loss in losses],
        "outputs": None if output is None else output.tolist(),
        "gradients": gradients_of(stages),
    }


def forget_gradients(stages: list[Any]) -> None:
    for stage in stages:
        stage.submod.zero_grad()


def train(rank: int, ranks: int, library: str, name: str, steps: int) -> Any:
    """What each step gives."""
    import torch
    from torch import nn

    pipelining = importlib.import_module(library)
    if name in V_SCHEDULES:
        stages = v_stages(pipelining, rank, ranks)
    else:
        own = (rank, ranks + rank) if name in LOOPS else (rank,)
        count = len(own) * ranks
        stages = [pipelining.PipelineStage(mlp(i), i, count, torch.device("cpu")) for i in own]
    given = stages if len(stages) > 1 else stages[0]
    schedule = getattr(pipelining, name)(given, MICROBATCHES, loss_fn=nn.functional.mse_loss)
    x, y = batch()
    results = []
    for _ in range(steps):
        forget_gradients(stages)
        results.append(step(schedule, stages, x, y))
        with torch.no_grad():
            for stage in stages:
                for value in stage.submod.parameters():
                    value -= 0.1 * value.grad
    return results


def train_both(rank: int, ranks: int, names: list[str], steps: int) -> Any:
    """By schedule: what plait gives, and what torch gives."""
    return {name: [train(rank, ranks, library, name, steps) for library in (OURS, TORCHS)] for name in names}


@WITH_TORCH
class Parity(unittest.TestCase):
    def test_losses_outputs_and_gradients_are_torchs(self) -> None:
        for rank, result in enumerate(on_ranks(train_both, 2, list(NAMES), 2)):
            for name, (ours, theirs) in result.items():
                with self.subTest(name, rank=rank):
                    self.assertEqual(ours, theirs)
                    has_last = rank == (0 if name in V_SCHEDULES else 1)
                    self.assertEqual(len(ours[1]["losses"]), MICROBATCHES if has_last else 0)


def mirrored(rank: int, ranks: int, folder: str) -> dict[str, Any]:
    """Everything about the mirror that two processes can show, in one start of them."""
    import torch
    from torch import nn

    import plait
    from plait import pipelining

    mse = nn.functional.mse_loss
    x, y = batch()
    found: dict[str, Any] = {}

    def v(name_or_file: Any, **options: Any) -> tuple[Any, list[Any]]:
        stages = v_stages(pipelining, rank, ranks)
        return pipelining.Schedule(name_or_file, stages, MICROBATCHES, mse, **options), stages

    dualpipe = pipelining.ScheduleDualPipeV(v_stages(pipelining, rank, ranks), MICROBATCHES, loss_fn=mse)
    found["dualpipe-v"] = step(dualpipe, dualpipe._own_stages(), x, y)
    for name in ("v-half", "v-min", "zbv-auto", "1f1b-v"):
        schedule, stages = v(name, **({"costs": {"f_ns": 100, "i_ns": 100, "w_ns": 80}} if name == "zbv-auto" else {}))
        found[name] = step(schedule, stages, x, y)
    # Files: ours, torch's compute only through _load_csv, and torch's with communication.
    compiled = plait.Schedule("dualpipe-v", ranks=ranks, microbatches=MICROBATCHES)
    file = pathlib.Path(folder, f"order{rank}.plait")
    compiled.save(file)
    schedule, stages = v(file)
    found["file"] = step(schedule, stages, x, y)
    for form, source in (("compute_only", compiled), ("compute_comms", compiled.lower(dialect="torch-2.13"))):
        csv = pathlib.Path(folder, f"{form}{rank}.csv")
        source.save(csv, dialect="torch-2.13")
        stages = v_stages(pipelining, rank, ranks)
        runtime = pipelining._PipelineScheduleRuntime(stages, MICROBATCHES, loss_fn=mse)
        runtime._load_csv(str(csv), format=form)
        found[form] = step(runtime, stages, x, y)

    # A user's own subclass that fills pipeline_order.
    class Mine(pipelining.PipelineScheduleMulti):  # type: ignore[misc]
        def __init__(self, own: list[Any]) -> None:
            super().__init__(own, MICROBATCHES, loss_fn=mse)
            action = pipelining.schedules._Action.from_str
            count = 2 * ranks
            holder = {stage: min(stage, count - 1 - stage) for stage in range(count)}
            self.pipeline_order = {
                r: [action(f"{s}{kind}{m}") for kind, order in (("F", range(count)), ("B", reversed(range(count))))
                    for s in order if holder[s] == r for m in range(MICROBATCHES)]
                for r in range(ranks)
            }
            self.stage_index_to_group_rank = holder

    stages = v_stages(pipelining, rank, ranks)
    found["subclass"] = step(Mine(stages), stages, x, y)
    return found


@WITH_TORCH
class Mirror(unittest.TestCase):
    def test_every_source_of_an_order_gives_the_same_bits(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for found in on_ranks(mirrored, 2, folder):
                wanted = found.pop("dualpipe-v")
                self.assertEqual(len(found), 8)
                for name, result in found.items():
                    with self.subTest(name):
                        self.assertEqual(result, wanted)


if __name__ == "__main__":
    unittest.main()
