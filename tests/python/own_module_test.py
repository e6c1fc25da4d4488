"""Modules of a user's own learn the same, bit by bit, in threads and as processes over Gloo: losses and gradient norms with
all their digits, under two schedules, alone and with a replica."""
import os
import subprocess

PROGRAM = os.environ["OWN_MODULE"]


def run(*arguments: str) -> list[str]:
    done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{arguments}: exit {done.returncode}: {done.stderr}"
    steps = [line for line in done.stdout.splitlines() if line.startswith("step ")]
    assert len(steps) == 3, f"{arguments}: {done.stdout}"
    return steps


def main() -> None:
    by_replicas = {}
    for schedule in ("zbv", "dualpipe-v"):
        for replicas in ("1", "2"):
            common = ("--schedule", schedule, "--data", replicas)
            threads = run(*common)
            processes = run(*common, "--comm", "gloo")
            assert threads == processes, f"{common}: {threads} in threads, {processes} over Gloo"
            # A schedule changes nothing; another batch does.
            assert by_replicas.setdefault(replicas, threads) == threads, f"{common}: {threads}"
    assert by_replicas["1"] != by_replicas["2"]
    bad = subprocess.run([PROGRAM, "--schedule", "no-such", "--comm", "gloo"], capture_output=True, text=True, timeout=300)
    assert bad.returncode != 0 and "no-such" in bad.stderr, bad


main()
