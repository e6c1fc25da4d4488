#!/usr/bin/env python3
"""How much of the communication of a mixture of experts a braided pair hides.

Two ranks of one expert group train the same job with pairs in sequence and braided, alternating, over
  - real TCP between two network namespaces whose link is limited by tc tbf, as processes over Gloo, and
  - a link emulated between threads of one process,
each with a bandwidth at which communication takes about as long as compute. Reported per link: the step in sequence and
braided, compute alone and communication alone (what the lanes were busy with in the sequence run), their larger one, the
share of communication that ran under compute, and what was exposed. Figures are medians over recorded steps.

Making namespaces needs root, ip and tc; without them that part says so and is left out. --quick: few steps, no calibration.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PLAIT = ROOT / "build/release/bin/plait"
NAMES = ("plait-a", "plait-b")

JOB = """
[model]
architecture = "deepseek-v3"
vocab_size = 256
hidden_size = 256
intermediate_size = 512
num_hidden_layers = {layers}
num_attention_heads = 4
num_key_value_heads = 4
n_routed_experts = 8
num_experts_per_tok = 2
n_shared_experts = 1
moe_intermediate_size = 256
first_k_dense_replace = 0
[data]
train = "text.txt"
sequence_length = 128
[parallel]
pipeline = 1
expert = 2
schedule = "dualpipe-v"
microbatches = {microbatches}
[run]
steps = {steps}
batch_size = {batch}
"""


def union(intervals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(intervals):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    return merged


def length(intervals: list[tuple[int, int]]) -> int:
    return sum(end - begin for begin, end in intervals)


def overlap(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> int:
    total, i, j = 0, 0, 0
    while i < len(one) and j < len(other):
        total += max(0, min(one[i][1], other[j][1]) - max(one[i][0], other[j][0]))
        if one[i][1] < other[j][1]:
            i += 1
        else:
            j += 1
    return total


class Step:
    """One recorded step, in milliseconds; the worse of the two ranks."""

    def __init__(self, path: pathlib.Path) -> None:
        events = [e for e in json.loads(path.read_text())["traceEvents"] if e["ph"] == "X"]
        ranks = {event["pid"] for event in events}
        spans = [(e["args"]["begin_ns"], e["args"]["end_ns"]) for e in events]
        self.span = (max(e for _, e in spans) - min(b for b, _ in spans)) / 1e6
        self.compute = self.communication = self.hidden = 0.0
        for rank in ranks:
            lanes = [union([(e["args"]["begin_ns"], e["args"]["end_ns"]) for e in events
                            if e["pid"] == rank and e["cat"] == lane]) for lane in ("compute", "communication")]
            if length(lanes[0]) / 1e6 > self.compute:
                self.compute = length(lanes[0]) / 1e6
            self.communication += length(lanes[1]) / 1e6 / len(ranks)
            self.hidden += overlap(*lanes) / 1e6 / len(ranks)

    @property
    def exposed(self) -> float:
        return self.communication - self.hidden


class Bench:
    def __init__(self, folder: pathlib.Path, arguments: argparse.Namespace) -> None:
        self.folder = folder
        self.arguments = arguments
        (folder / "text.txt").write_bytes(bytes(32 + (i * i + i // 7) % 90 for i in range(400_000)))
        m = arguments.microbatches
        (folder / "job.toml").write_text(JOB.format(layers=arguments.layers, microbatches=m, steps=arguments.step,
                                                    batch=2 * m * arguments.sequences))

    def command(self, pairs: str, *more: str) -> list[str]:
        return [str(PLAIT), "train", "job.toml", "--overwrite", "--record", str(self.arguments.step), "--set",
                f"parallel.pairs={pairs}", *more]

    def read(self) -> Step:
        return Step(self.folder / "runs/job/timeline.json")

    def threads(self, pairs: str, megabytes_per_s: float) -> Step:
        subprocess.run(self.command(pairs, "--link-latency-us", "50", "--link-mb-per-s", f"{megabytes_per_s:.3f}"),
                       cwd=self.folder, check=True, stdout=subprocess.DEVNULL)
        return self.read()

    def processes(self, pairs: str, names: tuple[str, str]) -> Step:
        ranks = []
        for rank, name in enumerate(names):
            environment = {**os.environ, "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "10.77.0.1",
                           "MASTER_PORT": "29577", "GLOO_SOCKET_IFNAME": "link0", "TORCH_CPP_LOG_LEVEL": "ERROR"}
            ranks.append(subprocess.Popen(
                ["ip", "netns", "exec", name, *self.command(pairs, "--comm", "gloo", "--launcher", "torchrun")],
                cwd=self.folder, env=environment, stdout=subprocess.DEVNULL))
        if any([rank.wait() for rank in ranks]):
            sys.exit("bench/overlap: a rank failed")
        return self.read()


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Namespaces:
    """Two of them, joined by a link that tc limits in both directions."""

    def __enter__(self) -> "Namespaces":
        self.leave()
        for name in NAMES:
            ip("netns", "add", name)
        ip("link", "add", "link0", "netns", NAMES[0], "type", "veth", "peer", "name", "link0", "netns", NAMES[1])
        for number, name in enumerate(NAMES, 1):
            ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", "link0")
            ip("-n", name, "link", "set", "link0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        return self

    def limit(self, megabytes_per_s: float) -> None:
        for name in NAMES:
            subprocess.run(["tc", "-n", name, "qdisc", "replace", "dev", "link0", "root", "tbf", "rate",
                            f"{megabytes_per_s * 8:.3f}mbit", "burst", "128kb", "latency", "400ms"], check=True)

    def __exit__(self, *_: object) -> None:
        self.leave()

    @staticmethod
    def leave() -> None:
        for name in NAMES:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def exchanged_megabytes(arguments: argparse.Namespace) -> float:
    """What leaves one rank in a step: half of the rows of dispatch and combine, there and back."""
    rows = arguments.sequences * 128 * 2
    return arguments.microbatches * arguments.layers * 4 * rows / 2 * 256 * 4 / 1e6


def measure(title: str, run, rounds: int) -> None:
    steps: dict[str, list[Step]] = {"sequence": [], "braid": []}
    for _ in range(rounds):
        for pairs, taken in steps.items():
            taken.append(run(pairs))
    middle = {pairs: {figure: statistics.median(getattr(step, figure) for step in taken)
                      for figure in ("span", "compute", "communication", "hidden", "exposed")} for pairs, taken in steps.items()}
    sequence, braid = middle["sequence"], middle["braid"]
    larger = max(sequence["compute"], sequence["communication"])
    print(f"{title}\n  compute alone {sequence['compute']:.0f} ms, communication alone {sequence['communication']:.0f} ms")
    for pairs, one in middle.items():
        print(f"  {pairs:<9} step {one['span']:6.0f} ms = {one['span'] / larger:.2f} x the larger lane;  communication hidden "
              f"{one['hidden'] / one['communication']:4.0%}, exposed {one['exposed']:.0f} ms")
    print(f"  braided is {sequence['span'] / braid['span']:.2f} times as fast")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--microbatches", type=int, default=8)
    parser.add_argument("--sequences", type=int, default=4)
    parser.add_argument("--step", type=int, default=3, help="which step is recorded")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.layers, arguments.microbatches, arguments.sequences, arguments.step = 1, 2, 4, 1, 2
    with tempfile.TemporaryDirectory() as holder:
        bench = Bench(pathlib.Path(holder), arguments)
        compute = bench.threads("sequence", 0).compute
        rate = exchanged_megabytes(arguments) / compute * 1e3
        print(f"{arguments.layers} layers, {arguments.microbatches} micro-batches, dualpipe-v on 1 pipeline rank x 2 expert ranks; "
              f"{exchanged_megabytes(arguments):.1f} MB leave a rank in a step, link limited to {rate:.1f} MB/s")
        measure("emulated link between threads (50 us latency)", lambda pairs: bench.threads(pairs, rate), arguments.rounds)
        if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("tc"):
            print("not run: real TCP between network namespaces (needs root, ip and tc)")
            return
        try:
            with Namespaces() as namespaces:
                namespaces.limit(rate)
                measure("real TCP between network namespaces, tc tbf, Gloo", lambda pairs: bench.processes(pairs, NAMES),
                        arguments.rounds)
        except subprocess.CalledProcessError as error:
            print(f"not run: real TCP between network namespaces ({' '.join(map(str, error.cmd))}: "
                  f"{(error.stderr or b'').decode().strip()})")


if __name__ == "__main__":
    main()
