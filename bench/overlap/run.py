#!/usr/bin/env python3
"""How much of the communication of a mixture of experts a braided pair hides, and what that gains.

Two ranks of one expert group train the same job with pairs in sequence and braided, alternating, over
  - a link emulated between threads of one process, and
  - real TCP between two network namespaces whose link is limited by tc tbf, as processes over Gloo,
each with a bandwidth at which communication takes about as long as compute (--ratio). Reported per link, for the most micro-batches:
  - the step in sequence and braided, compute alone and communication alone (what the lanes were busy with in the run in sequence),
    the share of communication that ran under compute, and what was exposed;
  - the same share of the pairs' own communication: |union of the exchanges' events that belong to a pair, under compute of the same
    rank| / |that union|, mean of the ranks. It cannot exceed pairs' compute / pairs' communication, which stands beside it;
  - the step against its bound: the run in sequence with each pair's span replaced by the larger of its two lanes. What lies outside
    pairs, where nothing can be hidden, stays as measured. timeline.py says both to the letter;
and for each number of micro-batches the coverage (the share of forwards that the schedule has in pairs), the gain that the bound
predicts and the one measured.

Beside them torch's own ScheduleDualPipeV trains the same shape over the same namespaces and link (torch_trainer.py): its step, and
its compute alone and communication alone.

Figures are medians over recorded steps. Making namespaces needs root, ip and tc; without them those parts say so and are left out.
--quick: few steps, small, no calibration.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable

import timeline
from links import Namespaces

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PLAIT = ROOT / "build/release/bin/plait"
LENGTH, CHOSEN = 128, 2
AIM_HIDDEN, AIM_STEP = 0.90, 1.10

JOB = """
[model]
architecture = "deepseek-v3"
vocab_size = {vocab_size}
hidden_size = {hidden_size}
intermediate_size = {intermediate_size}
num_hidden_layers = {num_hidden_layers}
num_attention_heads = {num_attention_heads}
num_key_value_heads = {num_key_value_heads}
n_routed_experts = {n_routed_experts}
num_experts_per_tok = {num_experts_per_tok}
n_shared_experts = 1
moe_intermediate_size = {moe_intermediate_size}
first_k_dense_replace = 0
[data]
train = "text.txt"
validation = "validation.txt"
sequence_length = {length}
[parallel]
pipeline = 1
expert = 2
schedule = "dualpipe-v"
[run]
steps = {steps}
"""

Figures = dict[str, float]
Run = Callable[[str, int], timeline.Step]  # of pairs "sequence" or "braid", and micro-batches


class Bench:
    """One folder with one job."""

    def __init__(self, folder: pathlib.Path, arguments: argparse.Namespace) -> None:
        self.folder, self.arguments = folder, arguments
        self.config = {"vocab_size": 256, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": arguments.layers,
                       "num_attention_heads": 4, "num_key_value_heads": 4, "n_routed_experts": 8, "num_experts_per_tok": CHOSEN,
                       "moe_intermediate_size": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0}
        self.sent: dict[int, float] = {}  # by micro-batches: megabytes that left both ranks of a run
        # Any byte as likely: tokens that repeat go to the same experts, and one rank would get most of the work.
        (folder / "text.txt").write_bytes(random.Random(1).randbytes(400_000))
        (folder / "validation.txt").write_bytes(bytes(LENGTH + 1))  # one window: validation is not what is measured
        (folder / "job.toml").write_text(JOB.format(**self.config, length=LENGTH, steps=arguments.step))

    def command(self, pairs: str, microbatches: int, *more: str) -> list[str]:
        settings = {"parallel.pairs": pairs, "parallel.microbatches": microbatches,
                    "run.batch_size": 2 * microbatches * self.arguments.sequences}
        if self.arguments.braid:
            settings["parallel.braid"] = self.arguments.braid.resolve()
        return [str(PLAIT), "train", "job.toml", "--overwrite", "--record", str(self.arguments.step),
                *(f"--set={key}={value}" for key, value in settings.items()), *more]

    def read(self) -> timeline.Step:
        return timeline.Step(self.folder / "runs/job/timeline.json")

    def threads(self, pairs: str, microbatches: int, megabytes_per_s: float) -> timeline.Step:
        subprocess.run(self.command(pairs, microbatches, "--link-latency-us", "50", "--link-mb-per-s", f"{megabytes_per_s:.3f}"),
                       cwd=self.folder, check=True, stdout=subprocess.DEVNULL)
        return self.read()

    def processes(self, pairs: str, microbatches: int, namespaces: Namespaces) -> timeline.Step:
        before = namespaces.megabytes_sent()
        namespaces.run(self.command(pairs, microbatches, "--comm", "gloo", "--launcher", "torchrun"), self.folder)
        self.sent[microbatches] = namespaces.megabytes_sent() - before
        return self.read()

    def coverage(self, microbatches: int) -> float:
        """The share of forwards that the schedule has in pairs."""
        made = subprocess.run([PLAIT, "make", "dualpipe-v", "--ranks", "1", "--microbatches", str(microbatches), "--format", "json"],
                              check=True, capture_output=True, text=True)
        cells = [cell for rank in json.loads(made.stdout)["actions"] for cell in rank]
        pairs = sum(isinstance(cell, list) for cell in cells)
        return pairs / (pairs + sum(isinstance(cell, str) and "F" in cell for cell in cells))

    def torch(self, microbatches: int, namespaces: Namespaces) -> tuple[Figures, float]:
        """Milliseconds of the slower rank, and the link's bytes for a row that leaves a rank, headers and all."""
        printed = namespaces.run([sys.executable, str(HERE / "torch_trainer.py"), "--config", json.dumps(self.config), "--text", "text.txt",
                                  "--length", str(LENGTH), "--microbatches", str(microbatches), "--sequences",
                                  str(self.arguments.sequences), "--steps", str(self.arguments.rounds)], self.folder)
        ranks = [json.loads(one) for one in printed]
        figures = {key: max(rank[key] for rank in ranks) * 1e3 for key in ("step", "compute", "communication")}
        figures["rows"] = sum(rank["rows_leaving"] for rank in ranks) / len(ranks)
        return figures, sum(rank["bytes_leaving"] for rank in ranks) / len(ranks) / figures["rows"]

    def exchanged_megabytes(self, microbatches: int) -> float:
        """What leaves one rank in a step: half of the rows of dispatch and combine, there and back."""
        rows = self.arguments.sequences * LENGTH * CHOSEN
        return microbatches * self.arguments.layers * 4 * rows / 2 * self.config["hidden_size"] * 4 / 1e6

    def rows_leaving(self, bytes_a_row: float) -> float:
        """Of one rank in a step with the most micro-batches. From the runs with the fewest and the most, so that what does not
        grow with micro-batches (start, the sum of gradients) drops out; validation, a forward of them all, is half a step."""
        fewest, most = min(self.sent), max(self.sent)
        of_one = (self.sent[most] - self.sent[fewest]) / (most - fewest) / (self.arguments.step + 0.5)
        return of_one * most / 2 * 1e6 / bytes_a_row


def measure(run: Run, microbatches: list[int], rounds: int) -> dict[int, dict[str, Figures]]:
    steps: dict[int, dict[str, list[timeline.Step]]] = {m: {"sequence": [], "braid": []} for m in microbatches}
    for _ in range(rounds):
        for m, kinds in steps.items():
            for pairs, taken in kinds.items():
                taken.append(run(pairs, m))
    return {m: {pairs: {figure: statistics.median(getattr(step, figure) for step in taken) for figure in timeline.FIGURES}
                for pairs, taken in kinds.items()} for m, kinds in steps.items()}


def report(bench: Bench, medians: dict[int, dict[str, Figures]]) -> None:
    sequence, braid = (medians[max(medians)][pairs] for pairs in ("sequence", "braid"))
    larger = max(sequence["compute"], sequence["communication"])
    print(f"  compute alone {sequence['compute']:.0f} ms, communication alone {sequence['communication']:.0f} ms, of which "
          f"{sequence['reduction']:.0f} ms sum gradients")
    for pairs, one in (("sequence", sequence), ("braid", braid)):
        print(f"  {pairs:<9} step {one['span']:6.0f} ms = {one['span'] / larger:.2f} x the larger lane;  communication hidden "
              f"{one['hidden'] / one['communication']:4.0%}, exposed {one['exposed']:.0f} ms")
    own, transfer = braid["pairs_communication"], braid["pairs_transfer"]
    print(f"  of the pairs' own communication, {own:.0f} ms, {braid['pairs_hidden'] / own:.0%} is hidden (aim {AIM_HIDDEN:.0%}); pairs have "
          f"compute for {min(1.0, braid['pairs_compute'] / own):.0%}\n"
          f"    {1 - transfer / own:.0%} of it waits for the peer to come to the same exchange; of the rest "
          f"{braid['transfer_hidden'] / transfer:.0%} is hidden; exchanges are issued {braid['pairs_late']:.0f} ms late in all\n"
          f"  with ideal pairs the step in sequence would take {sequence['bound']:.0f} ms: braided is "
          f"{braid['span'] / sequence['bound']:.2f} x that (aim {AIM_STEP:.2f})")
    print("    M  coverage  sequence ms  ideal ms  braided ms  gain predicted  measured")
    for m, kinds in medians.items():
        step, bound, braided = kinds["sequence"]["span"], kinds["sequence"]["bound"], kinds["braid"]["span"]
        print(f"  {m:>3}  {bench.coverage(m):8.1%}  {step:11.0f}  {bound:8.0f}  {braided:10.0f}  {step / bound:14.2f}  "
              f"{step / braided:8.2f}")


def report_torch(bench: Bench, torch: Figures, bytes_a_row: float, ours: dict[str, Figures]) -> None:
    both = torch["compute"] + torch["communication"]
    plait = ours["sequence"]["compute"] + ours["sequence"]["communication"]
    rows = bench.rows_leaving(bytes_a_row)
    print(f"torch's ScheduleDualPipeV over the same link: the same shape, 1 pipeline rank x 2 expert ranks\n"
          f"  compute alone (no communication) {torch['compute']:.0f} ms, communication alone (a step's, and nothing else) "
          f"{torch['communication']:.0f} ms\n"
          f"  step {torch['step']:.0f} ms = {torch['step'] / both:.2f} x (compute + communication); plait's braided step is "
          f"{ours['braid']['span'] / plait:.2f} x its own, {torch['step'] / ours['braid']['span']:.2f} times as fast as torch's\n"
          f"  rows that leave a rank in a step: torch {torch['rows']:.0f}, plait {rows:.0f} (by the link's counters), "
          f"{rows / torch['rows']:.2f} of torch's")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--microbatches", type=int, nargs="+", default=[2, 4, 8], help="two or more numbers")
    parser.add_argument("--sequences", type=int, default=4)
    parser.add_argument("--braid", type=pathlib.Path, help="the order inside a pair; otherwise the default one")
    parser.add_argument("--step", type=int, default=3, help="which step is recorded")
    parser.add_argument("--ratio", type=float, default=1.0, help="communication over compute that the links are limited for")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.layers, arguments.microbatches, arguments.sequences, arguments.step = 1, 2, [2, 4], 1, 2
    most = max(arguments.microbatches)
    with tempfile.TemporaryDirectory() as holder:
        bench = Bench(pathlib.Path(holder), arguments)
        compute = bench.threads("sequence", most, 0).compute
        rate = bench.exchanged_megabytes(most) / compute * 1e3 / arguments.ratio

        def calibrated(sequence_at: Callable[[float], timeline.Step]) -> float:
            """Uneven rows, headers and wake-ups take a link's time too: what counts is the time in pairs."""
            if arguments.quick:
                return rate
            step = sequence_at(rate)
            return rate * step.pairs_transfer / step.pairs_compute / arguments.ratio

        print(f"{arguments.layers} layers, {most} micro-batches, dualpipe-v on 1 pipeline rank x 2 expert ranks; about "
              f"{bench.exchanged_megabytes(most):.1f} MB leave a rank in a step")
        limit = calibrated(lambda rate: bench.threads("sequence", most, rate))
        print(f"emulated link between threads, {limit:.1f} MB/s, 50 us latency")
        report(bench, measure(lambda pairs, m: bench.threads(pairs, m, limit), arguments.microbatches, arguments.rounds))
        if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("tc"):
            print("not run: real TCP between network namespaces, and torch over it (needs root, ip and tc)")
            return
        try:
            with Namespaces() as namespaces:
                def sequence_at(rate: float) -> timeline.Step:
                    namespaces.limit(rate)
                    return bench.processes("sequence", most, namespaces)

                limit = calibrated(sequence_at)
                namespaces.limit(limit)
                print(f"real TCP between network namespaces, tc tbf at {limit:.1f} MB/s, Gloo")
                medians = measure(lambda pairs, m: bench.processes(pairs, m, namespaces), arguments.microbatches, arguments.rounds)
                report(bench, medians)
                report_torch(bench, *bench.torch(most, namespaces), medians[most])
        except subprocess.CalledProcessError as error:
            print(f"not run: real TCP between network namespaces, and torch over it ({' '.join(map(str, error.cmd))}: "
                  f"{(error.stderr or '').strip()})")


if __name__ == "__main__":
    main()
