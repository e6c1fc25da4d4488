"""plait.pipelining against torch.distributed.pipelining, in real processes over Gloo, to the bit."""

from __future__ import annotations

import importlib.util
import unittest
from typing import Any

import plait_torch
from processes import on_ranks

MICROBATCHES, WIDTH = 8, 16
V_SCHEDULES = ("ScheduleZBVZeroBubble", "ScheduleDualPipeV")


def stages_of(rank: int, ranks: int, name: str) -> list[int]:
    return [rank, 2 * ranks - 1 - rank] if name in V_SCHEDULES else [rank]


def train(rank: int, ranks: int, library: str, name: str, steps: int) -> Any:
    """Losses, merged outputs and gradients by name, of an MLP whose stages have the same numbers everywhere."""
    import importlib

    import torch
    from torch import nn

    pipelining = importlib.import_module(library)
    own = stages_of(rank, ranks, name)
    count = 2 * ranks if name in V_SCHEDULES else ranks
    torch.manual_seed(0)
    whole = [nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH)) for _ in range(count)]
    x, y = torch.randn(2 * MICROBATCHES, WIDTH), torch.randn(2 * MICROBATCHES, WIDTH)
    stages = [pipelining.PipelineStage(whole[i], i, count, torch.device("cpu")) for i in own]
    first = stages if name in V_SCHEDULES else stages[0]
    schedule = getattr(pipelining, name)(first, MICROBATCHES, loss_fn=nn.functional.mse_loss)
    result: dict[str, Any] = {"losses": [], "outputs": [], "gradients": {}}
    for _ in range(steps):
        for i in own:
            whole[i].zero_grad()
        losses: list[torch.Tensor] = []
        output = schedule.step(*([x] if 0 in own else []), target=y if count - 1 in own else None, losses=losses)
        result["losses"].append([loss.item() for loss in losses])
        result["outputs"].append(None if output is None else output.tolist())
        with torch.no_grad():
            for i in own:
                for parameter, value in whole[i].named_parameters():
                    result["gradients"][f"{i}.{parameter}"] = value.grad.tolist()
                    value -= 0.1 * value.grad
    return result


def train_both(rank: int, ranks: int, names: list[str], steps: int) -> Any:
    """By schedule: what plait gives, and what torch gives."""
    return {name: [train(rank, ranks, library, name, steps)
                   for library in ("plait.pipelining", "torch.distributed.pipelining")] for name in names}


@unittest.skipUnless(plait_torch.built_for() and importlib.util.find_spec("torch"), "built without torch")
class Parity(unittest.TestCase):
    def test_losses_outputs_and_gradients_are_torchs(self) -> None:
        for rank, result in enumerate(on_ranks(train_both, 2, ["ScheduleGPipe", "Schedule1F1B", *V_SCHEDULES], 2)):
            for name, (ours, theirs) in result.items():
                with self.subTest(name, rank=rank):
                    self.assertEqual(ours, theirs)
                    has_last = rank == (0 if name in V_SCHEDULES else 1)
                    self.assertEqual([len(losses) for losses in ours["losses"]], [8, 8] if has_last else [0, 0])


if __name__ == "__main__":
    unittest.main()
