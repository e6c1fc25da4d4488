#!/usr/bin/env python3
"""What plait.pipelining costs beside torch.distributed.pipelining, in the same run (docs/benchmarks.md).

    build/python/bin/python bench/python/host_time.py [--quick]

One process: CPU time of the calling thread for each F or B beyond the same modules and backwards called by
hand. Two processes over Gloo: time of a step, and CPU time of both processes, by width.
"""

from __future__ import annotations

import argparse
import importlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

LIBRARIES = ("plait.pipelining", "torch.distributed.pipelining")
MICROBATCHES = 8
WIDTHS = (16, 256, 1024)


def mlp(seed: int, width: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))


def thread_time(step: Callable[[], Any]) -> float:
    begin = time.thread_time()
    for _ in range(5):
        step()
    return (time.thread_time() - begin) / 5


def alone(rounds: int) -> None:
    """Two stages on one rank: 16 F, 16 B."""
    width = 16
    x, y = torch.randn(2 * MICROBATCHES, width), torch.randn(2 * MICROBATCHES, width)
    first, second = mlp(0, width), mlp(1, width)

    def by_hand() -> None:
        for part, target in zip(x.chunk(MICROBATCHES), y.chunk(MICROBATCHES)):
            output = first(part)
            boundary = output.detach().requires_grad_()
            nn.functional.mse_loss(second(boundary), target).backward()
            output.backward(boundary.grad)

    steps: dict[tuple[str, str], Callable[[], Any]] = {("by hand", ""): by_hand}
    for library in LIBRARIES:
        pipelining = importlib.import_module(library)
        for name in ("ScheduleInterleaved1F1B", "ScheduleInterleavedZeroBubble"):
            stages = [pipelining.PipelineStage(mlp(i, width), i, 2, torch.device("cpu")) for i in range(2)]
            schedule = getattr(pipelining, name)(stages, MICROBATCHES, loss_fn=nn.functional.mse_loss, scale_grads=False)
            steps[library, name] = lambda s=schedule: s.step(x, target=y, losses=[], return_outputs=False)
            steps[library, name]()
    # In turn, and the least of each: other programs only add to what a step takes.
    least = dict.fromkeys(steps, float("inf"))
    for _ in range(rounds):
        for key, step in steps.items():
            least[key] = min(least[key], thread_time(step))
    bare = least["by hand", ""]
    print(f"one process, width {width}: by hand {bare * 1e6:.0f} us a step of 16 F and 16 B", flush=True)
    for library, name in list(steps)[1:]:
        beyond = (least[library, name] - bare) / 32 * 1e6
        print(f"  {library:30} {name:30} {beyond:6.1f} us beyond that for each F or B", flush=True)


def over_gloo(rounds: int) -> None:
    rank, ranks = dist.get_rank(), 2
    for width in WIDTHS:
        x, y = torch.randn(2 * MICROBATCHES, width), torch.randn(2 * MICROBATCHES, width)
        for name, indices in (("Schedule1F1B", [rank]), ("ScheduleZBVZeroBubble", [rank, 3 - rank])):
            count = 2 * len(indices)
            steps = {}
            for library in LIBRARIES:
                pipelining = importlib.import_module(library)
                stages = [pipelining.PipelineStage(mlp(i, width), i, count, torch.device("cpu")) for i in indices]
                schedule = getattr(pipelining, name)(
                    stages if count == 4 else stages[0], MICROBATCHES, loss_fn=nn.functional.mse_loss, scale_grads=False
                )
                inputs = [x] if 0 in indices else []
                target = y if count - 1 in indices else None
                steps[library] = lambda s=schedule, i=inputs, t=target: s.step(*i, target=t, losses=[], return_outputs=False)
                steps[library]()
            walls: dict[str, list[float]] = {library: [] for library in LIBRARIES}
            cpus: dict[str, list[float]] = {library: [] for library in LIBRARIES}
            for _ in range(rounds):
                for library in LIBRARIES:
                    dist.barrier()
                    wall, cpu = time.perf_counter(), time.process_time()
                    for _ in range(3):
                        steps[library]()
                    both = torch.tensor([(time.perf_counter() - wall) / 3, (time.process_time() - cpu) / 3])
                    dist.all_reduce(both)
                    walls[library].append(both[0].item() / ranks)
                    cpus[library].append(both[1].item())
            if rank == 0:
                (ours, theirs), (our_cpu, their_cpu) = ([min(of[library]) for library in LIBRARIES] for of in (walls, cpus))
                print(
                    f"over Gloo, width {width:5} {name:22} step {ours * 1e3:8.2f} ms, torch {theirs * 1e3:8.2f}, ratio "
                    f"{ours / theirs:.2f}; CPU {our_cpu * 1e3:8.2f} ms, torch {their_cpu * 1e3:8.2f}, ratio {our_cpu / their_cpu:.2f}",
                    flush=True,
                )


def meet_at_a_free_port() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free.getsockname()[1]), GLOO_SOCKET_IFNAME="lo")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rounds, to see that it runs")
    parser.add_argument("--rank", type=int, help="of two processes: what this one starts itself")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rounds = 1 if arguments.quick else 15
    if arguments.rank is not None:
        dist.init_process_group("gloo", rank=arguments.rank, world_size=2)
        over_gloo(rounds)
        dist.barrier()
        dist.destroy_process_group()
        return
    meet_at_a_free_port()
    dist.init_process_group("gloo", rank=0, world_size=1)
    alone(rounds)
    dist.destroy_process_group()
    meet_at_a_free_port()  # this process still listens at the first
    command = [sys.executable, __file__, *(["--quick"] if arguments.quick else []), "--rank"]
    processes = [subprocess.Popen([*command, str(rank)]) for rank in range(2)]
    if any([process.wait() for process in processes]):
        sys.exit(1)


if __name__ == "__main__":
    main()
