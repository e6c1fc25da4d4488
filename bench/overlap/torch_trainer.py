"""torch's own DualPipeV on a mixture of experts, a process a rank; started by run.py in two network namespaces.

A pipeline of one rank with two stages, and an expert group of all ranks, over Gloo with one intra-op thread. A step ends with the sum
of the gradients that all ranks have, one all_reduce a stage, as plait's does. No parameter changes and every step has the same tokens,
so that all steps route alike. After a step that is not timed: `steps` steps as they are; `steps` times the communication of a step and
nothing else; `steps` steps without communication, exchanges being local copies. Prints one JSON line: the median seconds of each, and
what the exchanges of a step took out of this rank, in rows of a hidden state and in bytes of the link with headers and all.
"""

import argparse
import json
import os
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


def bytes_sent() -> int:
    return int(pathlib.Path(f"/sys/class/net/{os.environ['GLOO_SOCKET_IFNAME']}/statistics/tx_bytes").read_text())


def add_gradients(stage: torch.nn.Module) -> None:
    parameters = [parameter for name, parameter in stage.named_parameters() if ".experts." not in name]
    flat = torch.cat([parameter.grad.flatten() for parameter in parameters])
    dist.all_reduce(flat)
    for parameter, one in zip(parameters, flat.split([parameter.numel() for parameter in parameters])):
        parameter.grad.copy_(one.view_as(parameter))


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

    def train() -> None:
        schedule.step(tokens, target=targets)
        for stage in stages if exchanger.mode == "real" else ():
            add_gradients(stage)

    def communicate() -> None:
        exchanger.replay()
        for stage in stages:
            add_gradients(stage)

    def step() -> float:
        for stage in stages:
            stage.zero_grad(set_to_none=False)
        exchanger.begin_step()
        return seconds_of(train)

    dist.barrier()
    before = bytes_sent()
    schedule.step(tokens, target=targets)
    dist.barrier()
    figures = {"rows_leaving": exchanger.rows_leaving, "bytes_leaving": bytes_sent() - before}
    figures["step"] = statistics.median(step() for _ in range(args.steps))
    figures["communication"] = statistics.median(seconds_of(communicate) for _ in range(args.steps))
    exchanger.mode = "copy"
    figures["compute"] = statistics.median(step() for _ in range(args.steps))
    print(json.dumps(figures))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
