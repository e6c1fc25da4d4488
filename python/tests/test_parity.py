"""Losses and gradients of plait.pipelining are torch's own to the bit: schedules x ranks x models, over Gloo.

`make python` runs a set in which every schedule meets 2 and 4 ranks, and every model at least three schedules.
PLAIT_NIGHTLY=1 runs the whole product.
"""

from __future__ import annotations

import importlib.util
import os
import unittest
from typing import Any

import plait_torch
from processes import on_ranks, own_stages

MICROBATCHES, SEQUENCES, WIDTH = 8, 2, 16
V_SCHEDULES = ("ZBVZeroBubble", "DualPipeV")
# By torch's name: stages a rank.
CHUNKS = {"GPipe": 1, "1F1B": 1, "LoopedBFS": 2, "Interleaved1F1B": 2, "InterleavedZeroBubble": 2, "ZBVZeroBubble": 2, "DualPipeV": 2}
MODELS = ("mlp", "transformer", "tied", "several")
# What torch cannot run, and what of torch has the same numbers: there a stage that uses a parameter twice along one
# chain fails with "Trying to backward through the graph a second time".
TORCH_RUNS_INSTEAD = {("InterleavedZeroBubble", "tied"): "Interleaved1F1B"}


def modules_of(model: str, count: int, on_a_v: bool) -> tuple[list[Any], list[int]]:
    """The stages, and the shape of an input without its batch.

    tied: on a V the first and last stage, of one rank, share a matrix; elsewhere each stage uses its own twice.
    several: three tensors cross every boundary.
    """
    import torch
    from torch import nn

    class Mlp(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

    class Transposed(nn.Linear):
        """Uses its matrix the other way round."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tanh(x @ self.weight)

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrix = nn.Parameter(torch.randn(WIDTH, WIDTH) / 4)
            self.between = nn.Linear(WIDTH, WIDTH)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tanh(self.between(torch.tanh(x @ self.matrix))) @ self.matrix.t()

    class Several(nn.Module):
        def __init__(self, first: bool, last: bool) -> None:
            super().__init__()
            self.first, self.last = first, last
            self.inner, self.gate = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

        def forward(self, x: torch.Tensor, gate: Any = None, skip: Any = None) -> Any:
            if self.first:
                gate, skip = x * 0.5, x + 1
            h = self.inner(x) * torch.sigmoid(gate)
            g, s = self.gate(gate) + h, skip * 2 + h
            return h + g + s if self.last else (h, g, s)

    if model == "transformer":
        return [nn.TransformerEncoderLayer(WIDTH, 2, 2 * WIDTH, dropout=0.0) for _ in range(count)], [4, WIDTH]
    if model == "several":
        return [Several(i == 0, i == count - 1) for i in range(count)], [WIDTH]
    if model == "tied" and not on_a_v:
        return [Twice() for _ in range(count)], [WIDTH]
    modules: list[Any] = [Mlp() for _ in range(count)]
    if model == "tied":
        modules[0], modules[-1] = nn.Linear(WIDTH, WIDTH, bias=False), Transposed(WIDTH, WIDTH, bias=False)
        modules[-1].weight = modules[0].weight
    return modules, [WIDTH]


def train(rank: int, ranks: int, library: str, name: str, model: str, scale_grads: bool = True) -> Any:
    """Losses and gradients of three steps as bytes, by step and name."""
    import importlib

    import torch
    from torch import nn

    pipelining = importlib.import_module(library)
    chunks, on_a_v = CHUNKS[name], name in V_SCHEDULES
    count = ranks * chunks
    own = own_stages(rank, ranks, chunks, on_a_v)
    torch.manual_seed(0)
    modules, shape = modules_of(model, count, on_a_v)
    stages = [pipelining.PipelineStage(modules[i], i, count, torch.device("cpu")) for i in own]
    kind = getattr(pipelining, f"Schedule{name}")
    # torch divides a parameter of two stages by M twice.
    options = {} if scale_grads else {"scale_grads": False}
    schedule = kind(stages if chunks > 1 else stages[0], MICROBATCHES, loss_fn=nn.functional.mse_loss, **options)
    seen: dict[str, bytes] = {}
    for step in range(3):
        x, y = torch.randn(SEQUENCES * MICROBATCHES, *shape), torch.randn(SEQUENCES * MICROBATCHES, *shape)
        losses: list[torch.Tensor] = []
        schedule.step(*([x] if 0 in own else []), target=y if count - 1 in own else None, losses=losses)
        for number, loss in enumerate(losses):
            seen[f"step {step} loss {number}"] = loss.detach().numpy().tobytes()
        with torch.no_grad():
            for i in own:
                for parameter, value in modules[i].named_parameters():
                    gradient = value.grad
                    seen[f"step {step} {i}.{parameter}"] = b"" if gradient is None else gradient.numpy().tobytes()
            for parameter in {id(p): p for i in own for p in modules[i].parameters()}.values():
                if parameter.grad is not None:
                    parameter -= (0.1 if scale_grads else 0.1 / MICROBATCHES) * parameter.grad
                parameter.grad = None
    return seen


def differences(rank: int, ranks: int, cases: list[tuple[str, str]]) -> Any:
    """By case: how many numbers were compared, and the first that differ."""
    result = {}
    for name, model in cases:
        scale_grads = not (model == "tied" and name in V_SCHEDULES)
        of_torch = TORCH_RUNS_INSTEAD.get((name, model), name)
        theirs = train(rank, ranks, "torch.distributed.pipelining", of_torch, model, scale_grads)
        ours = train(rank, ranks, "plait.pipelining", name, model, scale_grads)
        wrong = [key for key in {**theirs, **ours} if ours.get(key) != theirs.get(key)]
        result[name, model] = (sum(map(len, theirs.values())) // 4, wrong[:4])
    return result


def cases_of(ranks: int, schedules: list[str]) -> list[tuple[str, str]]:
    if os.environ.get("PLAIT_NIGHTLY") == "1":
        return [(name, model) for name in schedules for model in MODELS]
    return [(name, MODELS[(number + ranks // 2) % len(MODELS)]) for number, name in enumerate(schedules)]


def shared_gradient(rank: int, ranks: int, name: str) -> Any:
    """Of the matrix that the first and last stage share: plait's gradient, and that of the model in one piece."""
    import numpy
    import torch

    torch.manual_seed(0)
    modules, shape = modules_of("tied", ranks * CHUNKS[name], on_a_v=True)
    x, y = torch.randn(SEQUENCES * MICROBATCHES, *shape), torch.randn(SEQUENCES * MICROBATCHES, *shape)
    torch.nn.functional.mse_loss(torch.nn.Sequential(*modules)(x), y).backward()
    seen = train(rank, ranks, "plait.pipelining", name, "tied")
    ours = seen.get("step 0 0.weight", b"")
    return numpy.frombuffer(ours, dtype=numpy.float32).tolist(), modules[0].weight.grad.flatten().tolist()


@unittest.skipUnless(plait_torch.built_for() and importlib.util.find_spec("torch"), "built without torch")
class Parity(unittest.TestCase):
    def test_every_bit_is_torchs(self) -> None:
        import plait.pipelining

        schedules = [name for name in CHUNKS if hasattr(plait.pipelining, f"Schedule{name}")]
        for ranks in (2, 4):
            cases = cases_of(ranks, schedules)
            for some in range(0, len(cases), len(schedules)):
                for rank, result in enumerate(on_ranks(differences, ranks, cases[some : some + len(schedules)])):
                    self.assertIsInstance(result, dict, result)
                    for (name, model), (count, wrong) in result.items():
                        with self.subTest(name, model=model, ranks=ranks, rank=rank):
                            self.assertEqual(wrong, [])
                            self.assertGreater(count, 3 * WIDTH)

    def test_a_parameter_of_two_stages_is_scaled_once(self) -> None:
        ours, whole = on_ranks(shared_gradient, 2, "ZBVZeroBubble")[0]
        self.assertEqual(len(ours), WIDTH * WIDTH)
        for mine, one_piece in zip(ours, whole):
            self.assertAlmostEqual(mine, one_piece, delta=1e-5)


if __name__ == "__main__":
    unittest.main()
