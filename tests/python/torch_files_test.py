"""Files go both ways between plait and torch.distributed.pipelining, and its runtime trains under schedules it does not have."""

import os
import pathlib
import socket
import tempfile
import unittest

import torch
import torch.distributed
import torch.multiprocessing
import torch_runtime
from torch.distributed.pipelining import PipelineStage
from torch.distributed.pipelining.schedules import _PipelineScheduleRuntime

# All that hold each stage once and go backward: name -> chunks.
SCHEDULES = {"gpipe": 1, "1f1b": 1, "interleaved-1f1b": 2, "looped-bfs": 2, "interleaved-zero-bubble": 2, "interleaved-grouped": 2,
             "zbv": 2, "zb-h1": 1, "zb-h2": 1, "v-half": 2, "v-min": 2, "1f1b-v": 2, "dualpipe-v": 2, "hanayo": 2, "stp": 2,
             "zb-auto": 1, "zbv-auto": 2}
RANKS, MICROBATCHES = 4, 12

WIDTH, STEPS, BATCH = 8, 2, 8


class Files(unittest.TestCase):
    def setUp(self) -> None:
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.file = pathlib.Path(holder.name) / "schedule.csv"

    def write(self, text: str) -> pathlib.Path:
        self.file.write_text(text)
        return self.file

    def test_torch_loads_our_orders_and_lowers_them_as_we_do(self) -> None:
        for name, chunks in SCHEDULES.items():
            with self.subTest(schedule=name):
                order = torch_runtime.made(name, RANKS, MICROBATCHES)
                runtime = torch_runtime.load(self.write(order), "compute_only", RANKS, RANKS * chunks, MICROBATCHES)
                self.assertEqual(torch_runtime.text_of(list(runtime.pipeline_order.values())), order)
                self.assertEqual(torch_runtime.text_of(list(runtime.pipeline_order_with_comms.values())),
                                 torch_runtime.made(name, RANKS, MICROBATCHES, "--lower"))

    def test_torch_loads_our_lowered_lists(self) -> None:
        for name, chunks in SCHEDULES.items():
            with self.subTest(schedule=name):
                lists = torch_runtime.made(name, RANKS, MICROBATCHES, "--lower")
                runtime = torch_runtime.load(self.write(lists), "compute_comms", RANKS, RANKS * chunks, MICROBATCHES)
                self.assertEqual(torch_runtime.text_of(list(runtime.pipeline_order_with_comms.values())), lists)

    def test_we_read_what_torch_writes(self) -> None:
        for name, chunks in (("zbv", 2), ("dualpipe-v", 2), ("looped-bfs", 2)):
            order = torch_runtime.made(name, RANKS, MICROBATCHES)
            runtime = torch_runtime.load(self.write(order), "compute_only", RANKS, RANKS * chunks, MICROBATCHES)
            for form in ("compute_only", "compute_comms"):
                with self.subTest(schedule=name, form=form):
                    runtime._dump_csv(str(self.file), format=form)
                    self.assertIn(b"\r\n", self.file.read_bytes())
                    result = torch_runtime.plait("make", self.file)
                    self.assertEqual(result.stdout, self.file.read_bytes().decode().replace("\r\n", "\n"))
                    self.assertEqual(torch_runtime.plait("check", self.file).returncode, 0)


def make_stage(stage: int) -> torch.nn.Module:
    torch.manual_seed(stage)
    return torch.nn.Sequential(torch.nn.Linear(WIDTH, WIDTH), torch.nn.Tanh()).double()


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(99)
    return [(torch.randn(BATCH, WIDTH).double(), torch.randn(BATCH, WIDTH).double()) for _ in range(STEPS)]


def unpipelined(stages: int) -> list[float]:
    model = torch.nn.Sequential(*(make_stage(stage) for stage in range(stages)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    losses = []
    for source, target in batches():
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(source), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def train_rank(rank: int, ranks: int, port: int, file: str, form: str, rank_of_stage: list[int], microbatches: int, results) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.distributed.init_process_group("gloo", rank=rank, world_size=ranks)
    count = len(rank_of_stage)
    stages = [PipelineStage(make_stage(stage), stage, count, torch.device("cpu"))
              for stage, holder in enumerate(rank_of_stage) if holder == rank]
    optimizer = torch.optim.SGD([value for stage in stages for value in stage.submod.parameters()], lr=0.5)
    schedule = _PipelineScheduleRuntime(stages, microbatches, loss_fn=torch.nn.functional.mse_loss)
    schedule._load_csv(file, format=form)
    for source, target in batches():
        optimizer.zero_grad()
        losses: list[torch.Tensor] = []
        arguments = [source] if rank_of_stage[0] == rank else []
        has_last = rank_of_stage[-1] == rank
        schedule.step(*arguments, target=target if has_last else None, losses=losses if has_last else None)
        optimizer.step()
        if has_last:
            results.put(torch.stack(losses).mean().item())
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


class Training(unittest.TestCase):
    """torch has none of these schedules; its runtime takes them from our files."""

    def train(self, name: str, form: str, rank_of_stage: list[int], microbatches: int) -> None:
        ranks = max(rank_of_stage) + 1
        lower = ["--lower"] if form == "compute_comms" else []
        with socket.socket() as probe, tempfile.TemporaryDirectory() as folder:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            probe.close()
            file = pathlib.Path(folder) / "schedule.csv"
            file.write_text(torch_runtime.made(name, ranks, microbatches, *lower))
            context = torch.multiprocessing.get_context("fork")
            results = context.SimpleQueue()
            torch.multiprocessing.start_processes(
                train_rank, (ranks, port, str(file), form, rank_of_stage, microbatches, results), ranks, start_method="fork")
            losses = [results.get() for _ in range(STEPS)]
        for ours, expected in zip(losses, unpipelined(len(rank_of_stage)), strict=True):
            self.assertAlmostEqual(ours, expected, delta=1e-12)

    def test_v_half_on_two_ranks(self) -> None:
        self.train("v-half", "compute_only", [0, 1, 1, 0], 4)

    def test_v_half_lowered_by_us(self) -> None:
        self.train("v-half", "compute_comms", [0, 1, 1, 0], 4)

    def test_zb_h1_on_three_ranks(self) -> None:
        self.train("zb-h1", "compute_only", [0, 1, 2], 4)

    def test_the_losses_change(self) -> None:
        first, second = unpipelined(3)
        self.assertGreater(abs(first - second), 1e-3)


if __name__ == "__main__":
    unittest.main()
