"""DDP and FSDP2 around the stages of plait.pipelining, to the bit.

FSDP2 against torch's own runtime. DDP against the mean of what each replica gives alone: torch's own runtime differs
from that in the last bits.
"""

from __future__ import annotations

import importlib
import unittest
from typing import Any

from processes import on_ranks
from test_pipelining import MICROBATCHES, OURS, TORCHS, WITH_TORCH, batch, mlp


def replicated(rank: int, ranks: int) -> dict[str, tuple[Any, Any]]:
    """Two replicas, each a pipeline of one rank with two stages: gradients of two steps, ours and torch's."""
    import torch
    import torch.distributed as dist
    from torch import nn
    from torch.distributed.fsdp import fully_shard
    from torch.nn.parallel import DistributedDataParallel
    from torch.utils.checkpoint import checkpoint

    import plait

    groups = [dist.new_group([r]) for r in range(ranks)]
    mesh = dist.device_mesh.init_device_mesh("cpu", (ranks,))

    class Checkpointed(nn.Module):
        def __init__(self, index: int) -> None:
            super().__init__()
            self.body = mlp(index)

        def forward(self, h: Any) -> Any:
            return checkpoint(self.body, h, use_reentrant=False)

    wraps = {
        "alone": mlp,
        "ddp": lambda index: DistributedDataParallel(mlp(index)),
        "ddp, views": lambda index: DistributedDataParallel(mlp(index), gradient_as_bucket_view=True),
        "ddp, checkpoint": lambda index: DistributedDataParallel(Checkpointed(index)),
        "fsdp": lambda index: fully_shard(mlp(index), mesh=mesh, reshard_after_forward=False),
        "fsdp, resharded": lambda index: fully_shard(mlp(index), mesh=mesh, reshard_after_forward=True),
    }

    whole: dict[str, int] = {}

    def gradients(library: str, name: str, wrap: str, *, accumulate: bool = False, lowered: bool = False) -> Any:
        pipelining = importlib.import_module(library)
        stages = [
            pipelining.PipelineStage(wraps[wrap](i), i, 2, torch.device("cpu"), group=groups[rank]) for i in range(2)
        ]
        schedule = getattr(pipelining, name)(stages, MICROBATCHES, loss_fn=nn.functional.mse_loss)
        if lowered:
            order = plait.Schedule("interleaved-zero-bubble", ranks=1, microbatches=MICROBATCHES, chunks=2)
            schedule = pipelining.Schedule(
                order.lower(dialect="torch-2.13", max_active_stages=1), stages, MICROBATCHES, nn.functional.mse_loss
            )
        found = []
        for seed in (1, 2):
            if not accumulate:
                for stage in stages:
                    stage.submod.zero_grad()
            x, y = batch(seed=10 * seed + rank)
            schedule.step(x, target=y)
            found.append([
                (p.grad.to_local() if hasattr(p.grad, "to_local") else p.grad).tolist()
                for stage in stages for p in stage.submod.parameters()
            ])
        if library == OURS:
            whole[wrap] = whole.get(wrap, 0) + schedule._program().counts()[1]
        return found

    def mean(found: Any) -> Any:
        means = []
        for one in found:
            means.append([])
            for gradient in one:
                tensor = torch.tensor(gradient) / ranks
                dist.all_reduce(tensor)
                means[-1].append(tensor.tolist())
        return means

    shown = {}
    for wrap in list(wraps)[1:]:
        theirs = gradients(TORCHS, "ScheduleInterleaved1F1B", wrap if wrap.startswith("fsdp") else "alone")
        theirs = theirs if wrap.startswith("fsdp") else mean(theirs)
        for name in ("ScheduleInterleaved1F1B", "ScheduleZBVZeroBubble", "ScheduleInterleavedZeroBubble"):
            shown[f"{wrap}, {name}"] = gradients(OURS, name, wrap), theirs
        if wrap.startswith("fsdp"):
            name = "ScheduleInterleavedZeroBubble"
            shown[f"{wrap}, with UNSHARD and RESHARD"] = gradients(OURS, name, wrap, lowered=True), theirs
        both = gradients(OURS, "ScheduleZBVZeroBubble", wrap, accumulate=True)
        added = [[(torch.tensor(a) + torch.tensor(b)).tolist() for a, b in zip(*theirs)]]
        shown[f"{wrap}, two steps add up"] = both, [theirs[0], *added]
    whole.pop("ddp, checkpoint")
    shown["all split"] = set(whole.values()), {0}
    return shown


@WITH_TORCH
class Replicas(unittest.TestCase):
    def test_gradients_are_torchs(self) -> None:
        for rank, shown in enumerate(on_ranks(replicated, 2)):
            self.assertIsInstance(shown, dict, shown)
            for name, (found, wanted) in shown.items():
                with self.subTest(name, rank=rank):
                    self.assertEqual(found, wanted)


if __name__ == "__main__":
    unittest.main()
