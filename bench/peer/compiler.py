#!/usr/bin/env python3
"""torch.distributed.pipelining and plait, lowering and simulating the same schedule, alternating in one run.

Interleaved 1F1B at R = 64, M = 128, V = 4, and DualPipeV at R = 64, M = 640. torch generates, validates and lowers, then runs its
unit-time dry run, which refuses parameter actions and pairs: there it gets the order with sends and receives only, or is left out.
plait generates, lowers, proves and simulates; its times are those of bin/compiler_bench. One thread each; CPU time, user and system.
"""

import argparse
import contextlib
import io
import json
import pathlib
import statistics
import subprocess
import time

from torch.distributed.pipelining import schedules
from torch.distributed.pipelining._schedule_visualizer import get_schedule_ops
from torch.distributed.pipelining._utils import generate_stage_to_rank_mapping

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BENCH = ROOT / "build/release/bin/compiler_bench"


def torch_times(name: str, style: str, ranks: int, microbatches: int, chunks: int, simulate: bool) -> dict[str, float]:
    begin = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        order = dict(enumerate(get_schedule_ops(name, ranks, microbatches, num_stages_per_rank=chunks)))
    generated = time.process_time()
    rank_of_stage = generate_stage_to_rank_mapping(ranks, ranks * chunks, style=style)
    schedules._validate_schedule(order, ranks, ranks * chunks, microbatches)
    lowered = {rank: schedules._add_reduce_grad(schedules._add_unshard_reshard(actions), microbatches) for rank, actions in order.items()}
    schedules._add_send_recv(lowered, lambda stage: rank_of_stage[stage], ranks * chunks)
    done = time.process_time()
    times = {"generate": generated - begin, "lower": done - generated}
    if simulate:
        plain = {rank: [action for action in actions if action is not None] for rank, actions in order.items()}
        messages = schedules._add_send_recv(plain, lambda stage: rank_of_stage[stage], ranks * chunks)
        begin = time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            schedules._simulate_comms_compute(messages, lambda stage: rank_of_stage[stage], ranks * chunks)
        times["simulate"] = time.process_time() - begin
    return times


def plait_times(bench: pathlib.Path, benchmark: str) -> dict[str, float]:
    out = subprocess.run([bench, f"--benchmark_filter=^{benchmark}$", "--benchmark_format=json"], check=True, capture_output=True, text=True)
    found = json.loads(out.stdout)["benchmarks"][0]
    return {part: found[f"{part}_ns"] * found["actions"] / 1e9 for part in ("generate", "lower", "verify", "simulate")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round of the first case")
    parser.add_argument("--bench", type=pathlib.Path, default=BENCH, help="the compiler_bench to run")
    arguments = parser.parse_args()
    cases = [("Interleaved1F1B", "loop", 64, 128, 4, True, "interleaved_r64_m128_v4"),
             ("DualPipeV", "v", 64, 640, 2, False, "dualpipe_v_r64_m640")]
    for name, style, ranks, microbatches, chunks, simulate, benchmark in cases[: 1 if arguments.quick else None]:
        rounds = [(torch_times(name, style, ranks, microbatches, chunks, simulate), plait_times(arguments.bench, benchmark))
                  for _ in range(1 if arguments.quick else arguments.rounds)]
        print(f"{name}, R = {ranks}, M = {microbatches}, V = {chunks}: median CPU seconds of {len(rounds)}")
        totals = []
        for side, index in (("torch", 0), ("plait", 1)):
            parts = {part: statistics.median(one[index][part] for one in rounds) for part in rounds[0][index]}
            totals.append(sum(parts.values()))
            print(f"  {side:<6} " + "  ".join(f"{part} {seconds:.4f}" for part, seconds in parts.items()) + f"  all {totals[-1]:.4f}")
        print(f"  torch takes {totals[0] / totals[1]:.0f} times as long")


if __name__ == "__main__":
    main()
