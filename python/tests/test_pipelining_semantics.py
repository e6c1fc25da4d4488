"""What a step of plait.pipelining means, beyond torch's bits on plain models; in real processes over Gloo."""

from __future__ import annotations

import datetime
import os
import signal
import tempfile
import threading
import unittest
from typing import Any

from processes import on_ranks
from test_pipelining import MICROBATCHES, WITH_TORCH, batch, forget_gradients, gradients_of, mlp, step, v_stages


def alone(ranks: int, x: Any, y: Any, make: Any = mlp) -> dict[str, Any]:
    """The same model without a pipeline, micro-batch by micro-batch."""
    import torch
    from torch import nn

    stages = [make(i) for i in range(2 * ranks)]
    losses, outputs = [], []
    for part, target in zip(x.chunk(MICROBATCHES), y.chunk(MICROBATCHES)):
        for stage in stages:
            part = stage(part)
        loss = nn.functional.mse_loss(part, target)
        loss.backward()
        losses.append(loss.item())
        outputs.append(part.detach())
    gradients = {}
    for i, stage in enumerate(stages):
        for name, value in stage.named_parameters():
            gradients[f"{i}.{name}"] = None if value.grad is None else (value.grad / MICROBATCHES).tolist()
    return {"losses": losses, "outputs": torch.cat(outputs).tolist(), "gradients": gradients}


def of_rank(whole: dict[str, Any], stages: list[Any]) -> dict[str, Any]:
    """What a rank with these stages sees of it."""
    last = any(stage.is_last for stage in stages)
    own = {f"{stage.stage_index}" for stage in stages}
    return {
        "losses": whole["losses"] if last else [],
        "outputs": whole["outputs"] if last else None,
        "gradients": {key: value for key, value in whole["gradients"].items() if key.split(".")[0] in own},
    }


def semantics(rank: int, ranks: int) -> dict[str, tuple[Any, Any]]:
    """By what is shown: found and wanted."""
    import torch
    from torch import nn

    from plait import pipelining

    mse = nn.functional.mse_loss
    x, y = batch()
    shown: dict[str, tuple[Any, Any]] = {}

    def schedule_of(stages: list[Any], **options: Any) -> Any:
        return pipelining.ScheduleDualPipeV(stages, MICROBATCHES, loss_fn=mse, **options)

    stages = v_stages(pipelining, rank, ranks)
    schedule = schedule_of(stages)
    wanted = of_rank(alone(ranks, x, y), stages)
    shown["one step"] = step(schedule, stages, x, y), wanted
    # Scaling divides what a step adds, and leaves what was there.
    first = {key: torch.tensor(value) for key, value in wanted["gradients"].items()}
    step(schedule, stages, x, y)
    shown["gradients add up over steps"] = gradients_of(stages), {k: (v + v).tolist() for k, v in first.items()}
    # Other shapes in the next step; then the first again.
    for rows, name in ((6 * MICROBATCHES, "other shapes"), (2 * MICROBATCHES, "the first shapes")):
        u, v = batch(rows)
        forget_gradients(stages)
        shown[name] = step(schedule, stages, u, v), of_rank(alone(ranks, u, v), stages)
    # A module in another's place.
    for stage in stages:
        stage.submod = mlp(100 + stage.stage_index)
    shown["another module"] = step(schedule, stages, x, y), of_rank(alone(ranks, x, y, lambda i: mlp(100 + i)), stages)
    # A parameter of both stages of a rank is divided once.
    tied = [nn.Parameter(torch.full((16,), 1.5)) for _ in range(ranks)]

    class Tied(nn.Module):
        def __init__(self, index: int) -> None:
            super().__init__()
            self.body, self.gate = mlp(index), tied[min(index, 2 * ranks - 1 - index)]

        def forward(self, h: Any) -> Any:
            return self.body(h) * self.gate

    alone_tied = of_rank(alone(ranks, x, y, Tied), stages)
    for gate in tied:
        gate.grad = None
    tied_stages = v_stages(pipelining, rank, ranks, Tied)
    found_tied = step(schedule_of(tied_stages), tied_stages, x, y)
    gates = [[torch.tensor(result["gradients"].pop(f"{stage.stage_index}.gate")) for stage in tied_stages]
             for result in (found_tied, alone_tied)]
    shown["stages with a tied parameter"] = found_tied, alone_tied
    # Its micro-batches add up in another order.
    shown["a tied parameter"] = [torch.allclose(*pair, atol=1e-7) for pair in zip(*gates)], [True, True]
    # Forward alone.
    forget_gradients(stages)
    losses: list[Any] = []
    out = schedule.eval(*([x] if rank == 0 else []), target=y if rank == 0 else None, losses=losses)
    whole = alone(ranks, x, y, lambda i: mlp(100 + i))
    shown["eval"] = (
        (None if out is None else out.tolist(), [loss.item() for loss in losses], set(map(str, gradients_of(stages).values()))),
        (whole["outputs"] if rank == 0 else None, whole["losses"] if rank == 0 else [], {"None"}),
    )
    with torch.no_grad():
        out = schedule.eval(*([x] if rank == 0 else []))
    shown["eval without a target"] = None if out is None else out.tolist(), whole["outputs"] if rank == 0 else None
    # Already split, without outputs.
    split = {"arg_mbs": [(part,) for part in x.chunk(MICROBATCHES)]} if rank == 0 else {}
    losses = []
    out = schedule.step(
        **split, target_mbs=list(y.chunk(MICROBATCHES)) if rank == 0 else None, losses=losses, return_outputs=False
    )
    shown["split by the caller"] = (out, [loss.item() for loss in losses]), (None, whole["losses"] if rank == 0 else [])
    return shown


class Several:
    """Modules of several tensors, keyword arguments, and memory orders."""

    @staticmethod
    def make(index: int, count: int, seen: list[Any]) -> Any:
        import torch
        from torch import nn

        class Stage(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.body = mlp(index)
                self.gate = nn.Parameter(torch.ones(16))

            def forward(self, h: Any, skip: Any = None, where: Any = None, *, scale: Any = None, name: Any = None) -> Any:
                seen.append((None if scale is None else tuple(scale.shape), name))
                if skip is not None:
                    assert not where.requires_grad and where.dtype == torch.int64
                    h = h + skip * self.gate
                out = self.body(h) * (1 if scale is None else scale)
                if index == count - 1:
                    return out
                # Not contiguous; a residual; integers.
                return out.t().contiguous().t(), h * self.gate, torch.arange(len(h))

        torch.manual_seed(index)
        return Stage()


def several(rank: int, ranks: int) -> dict[str, tuple[Any, Any]]:
    import torch
    from torch import nn

    from plait import pipelining

    x, y = batch()
    scale = torch.linspace(1, 2, len(x))[:, None]
    count, seen = 2 * ranks, []
    stages = v_stages(pipelining, rank, ranks, lambda i: Several.make(i, count, seen))
    schedule = pipelining.ScheduleZBVZeroBubble(stages, MICROBATCHES, loss_fn=nn.functional.mse_loss)
    kwargs = {"scale": scale, "name": "here"} if rank == 0 else {"scale": None}
    found = step(schedule, stages, x, y, **kwargs)
    whole = [Several.make(i, count, []) for i in range(count)]
    for part, target, scaled in zip(x.chunk(MICROBATCHES), y.chunk(MICROBATCHES), scale.chunk(MICROBATCHES)):
        values: Any = (part,)
        for i, stage in enumerate(whole):
            on_first = min(i, count - 1 - i) == 0
            values = stage(*values, **({"scale": scaled, "name": "here"} if on_first else {"scale": None}))
            values = tuple(v.contiguous() for v in values) if isinstance(values, tuple) else values
        nn.functional.mse_loss(values, target).backward()
    wanted = {
        f"{i}.{name}": None if value.grad is None else (value.grad / MICROBATCHES).tolist()
        for i in (rank, count - 1 - rank) for name, value in whole[i].named_parameters()
    }
    return {
        "gradients": (found["gradients"], wanted),
        "keyword arguments": (set(seen), {((2, 1), "here")} if rank == 0 else {(None, None)}),
    }


def whole_backwards(rank: int, ranks: int) -> dict[str, tuple[Any, Any]]:
    """Backwards that cannot be split, as a split would change or break them."""
    import torch
    from torch import nn
    from torch.utils.checkpoint import checkpoint

    from plait import pipelining

    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, h: Any, w: Any) -> Any:
            ctx.save_for_backward(h, w)
            return h * w

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            h, w = ctx.saved_tensors
            return g * w, (g * h).sum(0)

    calls: dict[int, int] = {}

    def make(kind: str) -> Any:
        class Stage(nn.Module):
            def __init__(self, index: int) -> None:
                super().__init__()
                self.index, self.first, self.second = index, mlp(index), mlp(index + 50)
                self.gate = nn.Parameter(torch.full((16,), 1.5))
                if kind == "compiled":
                    self.middle = torch.compile(nn.Sequential(nn.Tanh(), nn.GELU()), backend="aot_eager")

            def counted(self, h: Any) -> Any:
                calls[self.index] = calls.get(self.index, 0) + 1
                return self.second(h)

            def forward(self, h: Any) -> Any:
                h = self.first(h)
                if kind == "custom function":
                    h = Square.apply(h, self.gate)
                elif kind == "checkpoint":
                    h = checkpoint(self.counted, h, use_reentrant=False)
                elif kind == "compiled":
                    h = self.middle(h)
                elif kind == "hook":
                    h = self.second(h)
                    h.register_hook(lambda g: g * 1.0)
                return self.second(h) * self.gate

        return Stage

    x, y = batch()
    shown: dict[str, tuple[Any, Any]] = {}
    for kind in ("custom function", "checkpoint", "compiled", "hook"):
        stages = v_stages(pipelining, rank, ranks, make(kind))
        schedule = pipelining.ScheduleZBVZeroBubble(stages, MICROBATCHES, loss_fn=nn.functional.mse_loss)
        calls.clear()
        found = step(schedule, stages, x, y)
        counted = dict(calls)
        program = schedule._program()
        split = sum(instruction.type == "I" and instruction.stage != 0 for instruction in program.instructions)
        if kind == "checkpoint":
            # Forward and one recompute.
            split = sum(instruction.type == "I" for instruction in program.instructions)
            shown["forwards under a checkpoint"] = counted, {stage.stage_index: 2 * MICROBATCHES for stage in stages}
        shown[f"{kind}: results"] = found, of_rank(alone(ranks, x, y, make(kind)), stages)
        shown[f"{kind}: whole"] = program.counts()[1], split
    return shown


def fails(rank: int, ranks: int, where: str) -> Any:
    """Stage 2, on rank 1, raises in its forward or its backward of micro-batch 5."""
    import torch
    from torch import nn

    from plait import pipelining

    class Boom(Exception):
        pass

    class Backward(torch.autograd.Function):
        calls = 0

        @staticmethod
        def forward(ctx: Any, h: Any) -> Any:
            return h.clone()

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            Backward.calls += 1
            if Backward.calls == 6:
                raise Boom("no more")
            return g

    class Failing(nn.Module):
        def __init__(self, index: int) -> None:
            super().__init__()
            self.index, self.body, self.calls = index, mlp(index), 0

        def forward(self, h: Any) -> Any:
            self.calls += 1
            if self.index == 2 and where == "forward" and self.calls == 6:
                raise Boom("no more")
            return self.body(Backward.apply(h) if self.index == 2 and where == "backward" else h)

    stages = v_stages(pipelining, rank, ranks, Failing)
    schedule = pipelining.ScheduleDualPipeV(stages, MICROBATCHES, loss_fn=nn.functional.mse_loss)
    x, y = batch()
    try:
        step(schedule, stages, x, y)
    except Exception as error:
        return type(error).__name__, str(error), error.__notes__
    return None


def hangs(rank: int, ranks: int, folder: str) -> Any:
    """Rank 1 does nothing until rank 0 has given up."""
    import pathlib
    import time

    from torch import nn

    from plait import pipelining

    gave_up = pathlib.Path(folder, "gave up")
    stages = v_stages(pipelining, rank, ranks)
    schedule = pipelining.ScheduleDualPipeV(stages, MICROBATCHES, loss_fn=nn.functional.mse_loss)
    x, y = batch()
    if rank == 1:
        while not gave_up.exists():
            time.sleep(0.05)
        return ()
    try:
        step(schedule, stages, x, y)
    except Exception as error:
        gave_up.touch()
        return type(error).__name__, str(error), error.__notes__
    return None


def interrupted(rank: int, ranks: int) -> Any:
    """Rank 0 waits for rank 1, which computes for as long as rank 0 has not been interrupted."""
    import time

    import torch.distributed as dist
    from torch import nn

    from plait import pipelining

    store = dist.distributed_c10d._get_default_store()

    class Slow(nn.Module):
        def __init__(self, index: int) -> None:
            super().__init__()
            self.body, self.index = mlp(index), index

        def forward(self, h: Any) -> Any:
            if self.index == 1:
                store.wait(["interrupted"], datetime.timedelta(seconds=60))
            return self.body(h)

    stages = v_stages(pipelining, rank, ranks, Slow)
    schedule = pipelining.ScheduleDualPipeV(stages, MICROBATCHES, loss_fn=nn.functional.mse_loss)
    x, y = batch()
    if rank == 0:
        threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        step(schedule, stages, x, y)
    except KeyboardInterrupt as error:
        store.set("interrupted", "yes")
        time.sleep(0.5)
        return "KeyboardInterrupt", error.__notes__
    except RuntimeError:
        pass  # the other is gone
    return ()


def installed(rank: int, ranks: int) -> dict[str, tuple[Any, Any]]:
    """One process: what scripts find under torch's names, what is refused, and with which words."""
    import torch
    import torch.distributed.pipelining as torchs
    from torch import nn

    import plait
    from plait import pipelining

    theirs = torchs.ScheduleDualPipeV
    pipelining.install()
    pipelining.install()
    stages = [torchs.PipelineStage(mlp(i), i, 2, torch.device("cpu")) for i in range(2)]
    made = torchs.schedules.get_schedule_class("zbvzerobubble")(stages, 4, loss_fn=nn.functional.mse_loss)
    half = torchs.schedules.get_schedule_class("v-half")
    single = torchs.schedules.get_schedule_class("zb-h1")

    def refused(make: Any) -> tuple[str, str]:
        try:
            make()
        except Exception as error:
            return type(error).__name__, str(error)
        return "", "nothing"

    def argument_of(make: Any) -> str:
        try:
            make()
        except plait.Error as error:
            return error.argument
        return ""

    return {
        "wrong arguments are named": (
            [argument_of(make) for make in (
                lambda: pipelining.Schedule([["0F0", "1F0", "1B0", "0B0"]], stages[:1], 1),
                lambda: pipelining.Schedule(plait.Schedule("zbv", ranks=1, microbatches=4), stages, 8),
                lambda: pipelining.PipelineStage(mlp(0), 0, 2, torch.device("cpu"), dw_builder=lambda: None),
            )],
            ["stages", "n_microbatches", "dw_builder"],
        ),
        "torch's names": (
            (torchs.ScheduleDualPipeV, torchs.schedules.ScheduleDualPipeV, torchs.stage.PipelineStage),
            (pipelining.ScheduleDualPipeV, pipelining.ScheduleDualPipeV, pipelining.PipelineStage),
        ),
        "and classes": (issubclass(pipelining.ScheduleDualPipeV, theirs), True),
        "what is not defined is torch's": (pipelining.TensorChunkSpec, torchs.microbatch.TensorChunkSpec),
        "classes by name": (
            (type(made), half._name, issubclass(half, torchs.schedules.PipelineScheduleMulti),
             issubclass(single, torchs.schedules.PipelineScheduleSingle)),
            (pipelining.ScheduleZBVZeroBubble, "v-half", True, True),
        ),
        "torchtitan's question whether a schedule is on a V": (
            [kind in (torchs.ScheduleZBVZeroBubble, torchs.ScheduleDualPipeV)
             for kind in (half, single, pipelining.get_schedule_class("hanayo"), pipelining.ScheduleLoopedBFS)],
            [True, False, True, False],
        ),
        "a lowered order on demand": (
            [str(action) for action in made.pipeline_order_with_comms[0]][:3], ["0UNSHARD", "1UNSHARD", "0F0"],
        ),
        "refused": (
            [refused(make)[0] for make in (
                lambda: pipelining.ScheduleDualPipeV(stages, 1, loss_fn=nn.functional.mse_loss),
                lambda: pipelining.Schedule("dualpip-v", stages, 8),
                lambda: pipelining.Schedule("dualpipe-v", stages[:1], 8),
                lambda: pipelining.Schedule([["0F0", "0B0", "1F0", "1B0"]], stages, 1, nn.functional.mse_loss).step(
                    torch.zeros(1, 16), target=torch.zeros(1, 16)),
                lambda: pipelining.PipelineStage(mlp(0), 0, 2, torch.device("cpu"), dw_builder=lambda: None),
                lambda: pipelining.PipelineStage(mlp(0), 0, 2, torch.device("cuda")),
                lambda: made.register_custom_function("F", print),
                lambda: torchs.schedules.get_schedule_class("1f2b"),
                lambda: pipelining.nothing,
            )],
            ["InvalidInput", "InvalidInput", "InvalidInput", "CheckFailed", "NotBuilt", "NotBuilt", "NotBuilt", "ValueError",
             "AttributeError"],
        ),
    }


@WITH_TORCH
class Semantics(unittest.TestCase):
    def check(self, function: Any, ranks: int = 2) -> None:
        for rank, shown in enumerate(on_ranks(function, ranks)):
            self.assertIsInstance(shown, dict, shown)
            for name, (found, wanted) in shown.items():
                with self.subTest(name, rank=rank):
                    self.assertEqual(found, wanted)

    def test_steps(self) -> None:
        self.check(semantics)

    def test_torchs_names_and_what_is_refused(self) -> None:
        self.check(installed, 1)

    def test_several_tensors_and_keyword_arguments(self) -> None:
        self.check(several)

    def test_what_cannot_be_split_runs_whole(self) -> None:
        self.check(whole_backwards)

    def test_an_exception_arrives_as_itself_and_all_ranks_end(self) -> None:
        for where, note in (("forward", "in 2F5 on rank 1"), ("backward", "in 2B5 on rank 1")):
            with self.subTest(where):
                first, second = on_ranks(fails, 2, where, timeout_s=4)
                self.assertEqual(second, ("Boom", "no more", [note]))
                self.assertEqual(first[0], "RuntimeError")
                self.assertIn("on rank 0", first[2][0])

    def test_a_wait_ends_with_the_groups_timeout(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            first, _ = on_ranks(hangs, 2, folder, timeout_s=2)
        self.assertEqual(first[:2], ("RuntimeError", "rank 0 waited 2 s in 3RECV_F0 from rank 1"))

    def test_ctrl_c_arrives_while_a_rank_waits(self) -> None:
        first, _ = on_ranks(interrupted, 2, timeout_s=20)
        self.assertEqual(first[0], "KeyboardInterrupt")
        self.assertEqual(first[1], ["waits in 3RECV_F0 from rank 1 on rank 0"])


if __name__ == "__main__":
    unittest.main()
