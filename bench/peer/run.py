#!/usr/bin/env python3
"""The same Llama, tokens, ranks and threads, trained by torch.distributed.pipelining and by plait, alternating in one run.

Reported against one unpipelined torch process of the same run: step time, CPU seconds of all ranks, peak resident memory
summed over ranks. --quick takes one round of few steps at 2 ranks. --replicas D compares PP 2 x FSDP2 of D replicas with plait's
pipeline of 2 ranks and D replicas under --shard: step time, peak memory of a rank, exposed communication.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import llama

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CONFIG = {"vocab_size": 256, "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 8, "num_attention_heads": 4,
          "num_key_value_heads": 4, "rms_norm_eps": 1e-5, "rope_theta": 10000.0}
LENGTH, SEQUENCES, MICROBATCHES = 256, 2, 8


@dataclasses.dataclass
class Case:
    side: str  # torch or plait
    schedule: str  # single, 1f1b, dualpipe-v
    ranks: int
    comm: str = "gloo"
    replicas: int = 1
    shard: str = "none"  # of plait's replicas

    def name(self) -> str:
        if self.replicas > 1:
            how = "FSDP2" if self.side == "torch" else f"shard = {self.shard}"
            return f"{self.schedule}, {self.ranks} ranks x {self.replicas} replicas, {how}"
        return "one process" if self.schedule == "single" else f"{self.schedule}, {self.ranks} ranks, {self.comm}"


@dataclasses.dataclass
class Measured:
    step_s: float
    cpu_s: float  # a step, all processes, start-up taken out
    peak_mb: float
    rank_mb: float  # of the process that needs most
    exposed_s: float  # a step, of the rank that waits longest: plait's exposed_comm_ns, torch's time in FSDP2's collectives
    losses: list[float]


def descendants(pid: int) -> list[int]:
    found = [pid]
    for process in found:
        try:
            for task in pathlib.Path(f"/proc/{process}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


class MemoryWatch(threading.Thread):
    """Peak resident memory of each process of a tree (VmHWM), summed at the end."""

    def __init__(self, pids: list[int]) -> None:
        super().__init__(daemon=True)
        self.roots, self.peaks, self.done = pids, {}, False

    def run(self) -> None:
        while not self.done:
            for root in self.roots:
                for pid in descendants(root):
                    try:
                        status = pathlib.Path(f"/proc/{pid}/status").read_text()
                    except (FileNotFoundError, ProcessLookupError):
                        continue
                    for line in status.splitlines():
                        if line.startswith("VmHWM"):
                            self.peaks[pid] = max(self.peaks.get(pid, 0), int(line.split()[1]))
            time.sleep(0.05)

    def stop(self) -> list[float]:
        """MB by process."""
        self.done = True
        self.join()
        return [peak / 1024 for peak in self.peaks.values()]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def run_torch(case: Case, model: pathlib.Path, steps: int) -> tuple[list[dict], list[float]]:
    """Lines of all ranks, and MB by process."""
    port = free_port()
    processes = []
    for rank in range(case.ranks * case.replicas):
        env = {**os.environ, "RANK": str(rank), "WORLD_SIZE": str(case.ranks * case.replicas), "MASTER_ADDR": "127.0.0.1",
               "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        processes.append(subprocess.Popen([sys.executable, str(HERE / "torch_trainer.py"), "--schedule", case.schedule, "--model",
                                           str(model), "--text", str(ROOT / "data/kjv.txt"), "--steps", str(steps), "--validation-share", "0",
                                           "--replicas", str(case.replicas)],
                                          env=env, stdout=subprocess.PIPE, text=True))
    watch = MemoryWatch([process.pid for process in processes])
    watch.start()
    lines = [json.loads(line) for process in processes for line in process.communicate()[0].splitlines()]
    if any(process.returncode != 0 for process in processes):
        raise RuntimeError(f"torch failed: {case}")
    return lines, watch.stop()


def run_plait(case: Case, plait: str, model: pathlib.Path, folder: pathlib.Path,
              steps: int) -> tuple[list[dict], list[float]]:
    """Lines of the run, and MB by process."""
    job = folder / "peer.toml"
    (folder / "validation.txt").write_bytes(bytes(LENGTH + 1))  # one window: validation is not what is measured
    job.write_text(f"""[model]
init = "{model}"
[data]
train = "{ROOT / 'data/kjv.txt'}"
validation = "{folder / 'validation.txt'}"
sequence_length = {LENGTH}
[parallel]
pipeline = {case.ranks}
schedule = "{'1f1b' if case.schedule == 'single' else case.schedule}"
microbatches = {MICROBATCHES}
data = {case.replicas}
{f'shard = "{case.shard}"' if case.shard != "none" else ""}
[optimizer]
lr = 1e-3
clip_norm = 0.0
warmup_steps = 0
min_lr_share = 1.0
[run]
steps = {steps}
batch_size = {MICROBATCHES * SEQUENCES * case.replicas}
folder = "{folder / 'run'}"
comm = "{case.comm}"
""")
    extra = ["--reference"] if case.schedule == "single" else []
    process = subprocess.Popen([plait, "train", str(job), "--overwrite", *extra], stdout=subprocess.DEVNULL,
                               env={**os.environ, "OMP_NUM_THREADS": "1"})
    watch = MemoryWatch([process.pid])
    watch.start()
    if process.wait() != 0:
        raise RuntimeError(f"plait failed: {case}")
    lines = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()[1:]]
    return [line for line in lines if "loss" in line], watch.stop()


def loss_lines(lines: list[dict]) -> list[dict]:
    """A line a step: the mean loss of the replicas, the longest time, the longest wait of any rank."""
    steps = []
    for step in sorted({line["step"] for line in lines}):
        of_step = [line for line in lines if line["step"] == step]
        with_loss = [line for line in of_step if line.get("loss") is not None]
        waits = [ns for line in of_step for ns in line.get("exposed_comm_ns", [line.get("collective_ns", 0)])]
        steps.append({"loss": statistics.mean(line["loss"] for line in with_loss), "step_ns": max(line["step_ns"] for line in with_loss),
                      "exposed_ns": max(waits, default=0)})
    return steps


def measure(case: Case, args: argparse.Namespace, model: pathlib.Path, folder: pathlib.Path) -> Measured:
    """Steps after the first; CPU seconds are those of whole processes, less a run of one step."""
    results = []
    for steps in (1, args.steps + 1):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        lines, peak = (run_torch(case, model, steps) if case.side == "torch" else run_plait(case, args.plait, model, folder, steps))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        results.append((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, lines, peak))
    steps = loss_lines(results[1][1])
    return Measured(statistics.median(line["step_ns"] for line in steps[1:]) / 1e9, (results[1][0] - results[0][0]) / args.steps,
                    sum(results[1][2]), max(results[1][2]), statistics.median(line["exposed_ns"] for line in steps[1:]) / 1e9,
                    [line["loss"] for line in steps])


def cases_of(args: argparse.Namespace) -> list[Case]:
    """The first of a group is what the others' ratios are to."""
    if args.replicas > 1:
        schedules = ("1f1b",) if args.quick else ("1f1b", "dualpipe-v")
        sides = [("torch", "none"), *(("plait", shard) for shard in args.shard)]
        return [Case(side, schedule, 2, replicas=args.replicas, shard=shard) for schedule in schedules for side, shard in sides]
    cases = [Case("torch", "single", 1), Case("plait", "single", 1)]
    for schedule in ("1f1b", "dualpipe-v"):
        for ranks in (2,) if args.quick else (2, 4):
            cases += [Case("torch", schedule, ranks), Case("plait", schedule, ranks), Case("plait", schedule, ranks, "inproc")]
    return cases


def print_pipelines(cases: list[Case], rounds: list[list[Measured]]) -> None:
    print("| side | case | step time | CPU seconds | peak memory | step s | CPU s a step | peak MB |\n|---|---|---|---|---|---|---|---|")
    for i, case in enumerate(cases):
        ratios = [[getattr(one[i], key) / getattr(one[0], key) for one in rounds] for key in ("step_s", "cpu_s", "peak_mb")]
        values = [statistics.median(getattr(one[i], key) for one in rounds) for key in ("step_s", "cpu_s", "peak_mb")]
        row = " | ".join(f"{statistics.median(ratio):.2f}" for ratio in ratios)
        print(f"| {case.side} | {case.name()} | {row} | {values[0]:.3f} | {values[1]:.3f} | {values[2]:.0f} |")


def print_replicas(cases: list[Case], rounds: list[list[Measured]]) -> None:
    print("| side | case | step time | memory of a rank | step s | MB of a rank | exposed s |\n|---|---|---|---|---|---|---|")
    torch = 0
    for i, case in enumerate(cases):
        torch = i if case.side == "torch" else torch  # of the same schedule
        ratios = [statistics.median(getattr(one[i], key) / getattr(one[torch], key) for one in rounds) for key in ("step_s", "rank_mb")]
        step, memory, exposed = (statistics.median(getattr(one[i], key) for one in rounds) for key in ("step_s", "rank_mb", "exposed_s"))
        print(f"| {case.side} | {case.name()} | {ratios[0]:.2f} | {ratios[1]:.2f} | {step:.3f} | {memory:.0f} | {exposed:.3f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plait", default=str(ROOT / "build/release/bin/plait"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--shard", nargs="+", default=["parameters"], choices=("none", "optimizer", "gradients", "parameters"))
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.steps = 1, 2
    cases = cases_of(args)
    rounds = []
    with tempfile.TemporaryDirectory() as holder:
        folder = pathlib.Path(holder)
        llama.write_random_model(folder / "model", CONFIG, LENGTH, 1)
        for _ in range(args.rounds):
            rounds.append([measure(case, args, folder / "model", folder) for case in cases])
    print(f"Llama of 8 layers, d 256, sequence {LENGTH}, micro-batch {SEQUENCES}, M {MICROBATCHES}; {args.rounds} rounds of {args.steps} "
          f"steps; medians of ratios to {'torch' if args.replicas > 1 else 'one unpipelined torch process'} of the same round\n")
    (print_replicas if args.replicas > 1 else print_pipelines)(cases, rounds)
    for one in rounds:
        for case, measured in zip(cases, one):
            worst = max(abs(a - b) for a, b in zip(measured.losses, one[0].losses))
            if worst > 1e-4:
                sys.exit(f"{case} trains to other losses, up to {worst} away")


if __name__ == "__main__":
    main()
