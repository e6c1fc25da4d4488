"""Trains the Llama of llama.py with torch alone: unpipelined, or with torch.distributed.pipelining over Gloo.

Prints a JSON line a step from the rank that has the loss, and one with the peak resident memory from each rank.
Started by run.py, a process a rank, with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT as torchrun sets them.
"""

import argparse
import json
import math
import os
import pathlib
import time

import torch
import torch.distributed as dist
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleDualPipeV

import llama
import sampler


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--schedule", choices=("single", "1f1b", "dualpipe-v"), required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--text", type=pathlib.Path, required=True)
    for name, default in (("steps", 5), ("microbatches", 8), ("sequences", 2), ("length", 256), ("seed", 1), ("warmup", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in (("lr", 1e-3), ("weight-decay", 0.1), ("clip", 0.0), ("validation-share", 0.05), ("min-share", 1.0)):
        parser.add_argument(f"--{name}", type=float, default=default)
    return parser.parse_args()


def learning_rate(args: argparse.Namespace, step: int) -> float:
    if step < args.warmup:
        return args.lr * (step + 1) / args.warmup
    progress = min(1.0, (step - args.warmup) / max(1, args.steps - args.warmup))
    return args.lr * (args.min_share + (1 - args.min_share) * 0.5 * (1 + math.cos(math.pi * progress)))


class Single:
    """One process: the micro-batches one after the other."""

    def __init__(self, args: argparse.Namespace, config: dict) -> None:
        self.stages = [llama.Stage(config, 0, 1, args.length)]
        self.microbatches, self.has_loss = args.microbatches, True

    def step(self, tokens: torch.Tensor, targets: torch.Tensor) -> float:
        losses = []
        for x, y in zip(tokens.chunk(self.microbatches), targets.chunk(self.microbatches)):
            loss = llama.loss_of(self.stages[0](x), y)
            loss.backward()
            losses.append(loss.item())
        for parameter in self.stages[0].parameters():
            parameter.grad.div_(self.microbatches)
        return sum(losses) / self.microbatches


class Pipelined:
    def __init__(self, args: argparse.Namespace, config: dict) -> None:
        dist.init_process_group("gloo")
        rank, ranks = dist.get_rank(), dist.get_world_size()
        dualpipe = args.schedule == "dualpipe-v"
        count = 2 * ranks if dualpipe else ranks
        mine = [rank, 2 * ranks - 1 - rank] if dualpipe else [rank]
        self.stages = [llama.Stage(config, index, count, args.length) for index in mine]
        pipeline = [PipelineStage(stage, index, count, torch.device("cpu")) for stage, index in zip(self.stages, mine)]
        self.schedule = (ScheduleDualPipeV(pipeline, args.microbatches, loss_fn=llama.loss_of) if dualpipe else
                         Schedule1F1B(pipeline[0], args.microbatches, loss_fn=llama.loss_of))
        self.has_input, self.has_loss = 0 in mine, count - 1 in mine

    def step(self, tokens: torch.Tensor, targets: torch.Tensor) -> float:
        losses: list[torch.Tensor] = []
        positional = (tokens,) if self.has_input else ()
        keywords = {"target": targets, "losses": losses} if self.has_loss else {}
        self.schedule.step(*positional, **keywords)
        return sum(loss.item() for loss in losses) / max(1, len(losses))


def main() -> None:
    args = arguments()
    torch.set_num_threads(1)
    config = json.loads((args.model / "config.json").read_text())
    trainer = (Single if args.schedule == "single" else Pipelined)(args, config)
    for stage in trainer.stages:
        stage.load(args.model)
    parameters = [p for stage in trainer.stages for p in stage.parameters()]
    groups = [{"params": [p for p in parameters if p.dim() > 1], "weight_decay": args.weight_decay},
              {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.95), eps=1e-8)
    text = sampler.training_part(args.text, args.validation_share)
    for step in range(args.steps):
        begin, cpu = time.perf_counter_ns(), time.process_time_ns()
        tokens, targets = sampler.batch(text, args.seed, step, args.microbatches * args.sequences, args.length)
        optimizer.zero_grad(set_to_none=False)
        loss = trainer.step(tokens, targets)
        norm = None
        if args.clip > 0:
            norm = torch.nn.utils.clip_grad_norm_(parameters, args.clip).item()  # of this process's parameters
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(args, step)
        optimizer.step()
        line = {"step": step + 1, "rank": int(os.environ.get("RANK", 0)), "step_ns": time.perf_counter_ns() - begin,
                "cpu_ns": time.process_time_ns() - cpu}
        if trainer.has_loss:
            line.update(loss=loss, grad_norm=norm)
        print(json.dumps(line), flush=True)
    if args.schedule != "single":
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
