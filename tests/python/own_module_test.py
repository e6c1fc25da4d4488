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
    # Each schedule in threads and as processes, alone and with a replica, but for what follows from the others.
    for schedule, replicas, comm in (("zbv", "1", "inproc"), ("dualpipe-v", "1", "gloo"), ("dualpipe-v", "2", "inproc"), ("zbv", "2", "gloo")):
        steps = run("--schedule", schedule, "--data", replicas, "--comm", comm)
        # Neither the schedule nor the comm changes anything; another batch does.
        assert by_replicas.setdefault(replicas, steps) == steps, f"{schedule}, {replicas} replicas, {comm}: {steps}"
    assert by_replicas["1"] != by_replicas["2"]
    bad = subprocess.run([PROGRAM, "--schedule", "no-such", "--comm", "gloo"], capture_output=True, text=True, timeout=300)
    assert bad.returncode != 0 and "no-such" in bad.stderr, bad


main()
