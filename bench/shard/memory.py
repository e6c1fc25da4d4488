"""What each rank of sharded replicas is planned to hold of parameters, gradients and optimiser state, and what it held: the table
of docs/shard.md.

    python bench/shard/memory.py [--plait build/release/bin/plait] [--replicas 1,2,4] [--schedules 1f1b]

A Llama of 6.4 million parameters on two ranks of the pipeline, all replicas as threads of one process, two steps. Planned: the
columns of `plait train --dry-run`; held: `peak_state_bytes` of metrics.jsonl, of the replica that held most. Both of the rank of
the pipeline that holds most. Ends with 1 if a run held more than was planned, or less than 95 % of it."""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

JOB = """
[model]
vocab_size = 256
hidden_size = 256
intermediate_size = 688
num_hidden_layers = 8
num_attention_heads = 4
num_key_value_heads = 4

[data]
train = "text.txt"
sequence_length = 16

[parallel]
pipeline = 2
schedule = "{schedule}"
microbatches = 8
data = {replicas}
shard = "{mode}"

[run]
steps = 2
batch_size = {batch}
seed = 1
"""

MODES = {"none": "", "optimizer": "ZeRO-1", "gradients": "ZeRO-2", "parameters": "ZeRO-3"}
TEXT = bytes(32 + (i * i + i // 7) % 90 for i in range(20000))


def call(plait: str, folder: pathlib.Path, *arguments: str) -> str:
    result = subprocess.run([plait, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise SystemExit(f"plait {' '.join(arguments)}: {result.stderr}")
    return result.stdout


def planned(plait: str, folder: pathlib.Path) -> list[dict[str, float]]:
    """By rank of the pipeline, MB by column."""
    lines = call(plait, folder, "train", "job.toml", "--dry-run").splitlines()
    head = next(i for i, line in enumerate(lines) if line.split()[:2] == ["rank", "weights"])
    names = lines[head].replace("bytes in all", "all").split()
    return [{name: float(cell) for name, cell in zip(names[1:7], line.split()[1:7], strict=True)} for line in lines[head + 1:head + 3]]


def held(plait: str, folder: pathlib.Path, replicas: int) -> list[float]:
    """By rank of the pipeline, MB."""
    call(plait, folder, "train", "job.toml", "--overwrite")
    peaks = [0.0, 0.0]
    for line in (folder / "runs/job/metrics.jsonl").read_text().splitlines()[1:]:
        for rank, peak in enumerate(json.loads(line).get("peak_state_bytes", [])):
            peaks[rank // replicas] = max(peaks[rank // replicas], peak / 1e6)
    return peaks


def measure(plait: str, schedule: str, replicas: list[int]) -> bool:
    print(f"| {schedule}: `shard` | D | weights | gradients | optimiser | whole for a while | planned | held | held / planned |")
    print("|---|---|---|---|---|---|---|---|---|")
    kept = True
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "text.txt").write_bytes(TEXT)
        if schedule == "one stage at a time":
            order = call(plait, folder, "make", "interleaved-1f1b", "--ranks", "2", "--chunks", "4", "--microbatches", "8", "--lower",
                         "--max-active-stages", "1")
            (folder / "order.csv").write_text(order)
        for mode, known_as in MODES.items():
            for count in replicas:
                if count == 1 and mode != "none":
                    continue
                source = "order.csv" if schedule == "one stage at a time" else schedule
                (folder / "job.toml").write_text(JOB.format(schedule=source, replicas=count, mode=mode, batch=8 * count))
                plans = planned(plait, folder)
                states = [plan["weights"] + plan["gradients"] + plan["optimizer"] + plan.get("whole", 0) for plan in plans]
                most = states.index(max(states))
                plan, state, peak = plans[most], states[most], held(plait, folder, count)[most]
                label = f"`{mode}`" + (f" ({known_as})" if known_as else "")
                print(f"| {label} | {count} | {plan['weights']:.1f} | {plan['gradients']:.1f} | {plan['optimizer']:.1f} | "
                      f"{plan.get('whole', 0):.1f} | {state:.1f} | {peak:.1f} | {peak / state:.3f} |", flush=True)
                kept = kept and 0.95 * state <= peak <= state + 0.2  # each of four columns is printed with one place
    print()
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plait", default="build/release/bin/plait")
    parser.add_argument("--replicas", default="1,2,4")
    parser.add_argument("--schedules", default="1f1b,one stage at a time")
    options = parser.parse_args()
    plait = str(pathlib.Path(options.plait).resolve())
    replicas = [int(count) for count in options.replicas.split(",")]
    kept = [measure(plait, schedule, replicas) for schedule in options.schedules.split(",")]
    sys.exit(0 if all(kept) else 1)


if __name__ == "__main__":
    main()
