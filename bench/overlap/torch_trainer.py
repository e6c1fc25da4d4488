"""torch's own DualPipeV on a mixture of experts, a process a rank; started by run.py in two network namespaces.

A pipeline of one rank with two stages, and an expert group of all ranks, over Gloo with one intra-op thread. No parameter changes and
every step has the same tokens, so that all steps route alike. After a step that is not counted: `steps` steps as they are; `steps`
steps whose exchanges are local copies (compute alone); `steps` times the exchanges of a step and nothing else (communication alone).
Prints one JSON line: seconds of each, and what left this rank in a step.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time

import torch
import torch.distributed as dist
from torch.distributed.pipelining import PipelineStage, ScheduleDualPipeV

import mixture

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "peer"))
import sampler  # noqa: E402


def seconds_of(run) -> float:
    """From all ranks' begin to this rank's end."""
    dist.barrier()
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=json.loads, required=True, help="the model's shape, with Hugging Face's keys")
    parser.add_argument("--text", type=pathlib.Path, required=True)
    for name in ("length", "microbatches", "sequences", "steps"):
        parser.add_argument(f"--{name}", type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    pipelines = [dist.new_group([one]) for one in range(ranks)]
    exchanger = mixture.Exchanger(dist.group.WORLD)

    torch.manual_seed(1 + rank)  # ranks' experts differ; that their other weights do too changes no shape
    stages = [mixture.Stage(args.config, index, 2, args.length, exchanger) for index in range(2)]
    hidden = torch.empty(args.sequences, args.length, args.config["hidden_size"], requires_grad=True)
    tokens, targets = sampler.batch(args.text.read_bytes(), 1, rank, args.microbatches * args.sequences, args.length)
    logits = torch.empty(args.sequences, args.length, args.config["vocab_size"], requires_grad=True)
    shapes = [(tokens[:args.sequences], hidden), (hidden, logits)]
    schedule = ScheduleDualPipeV(
        [PipelineStage(stage, index, 2, torch.device("cpu"), *shapes[index], group=pipelines[rank]) for index, stage in enumerate(stages)],
        args.microbatches, loss_fn=mixture.loss_of)

    def step() -> float:
        for stage in stages:
            stage.zero_grad(set_to_none=False)
        exchanger.begin_step()
        return seconds_of(lambda: schedule.step(tokens, target=targets))

    step()
    taken: dict[str, list[float]] = {"step": [], "compute": [], "communication": []}
    for _ in range(args.steps):
        taken["step"].append(step())
    rows_leaving = exchanger.rows_leaving
    for _ in range(args.steps):
        taken["communication"].append(seconds_of(exchanger.replay))
    exchanger.mode = "copy"
    for _ in range(args.steps):
        taken["compute"].append(step())
    print(json.dumps({**{part: statistics.median(seconds) for part, seconds in taken.items()}, "rows_leaving": rows_leaving}))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
