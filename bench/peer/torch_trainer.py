"""Trains the Llama of llama.py with torch alone: unpipelined, or with torch.distributed.pipelining over Gloo, also with
replicas that FSDP2 shards.

Prints a JSON line a step from the rank that has the loss, and one with the peak resident memory from each rank.
Started by run.py, a process a rank, with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT as torchrun sets them.
"""

import argparse
import json
import math
import os
import pathlib
import time
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleDualPipeV

import llama
import sampler


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--schedule", choices=("single", "1f1b", "dualpipe-v"), required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--text", type=pathlib.Path, required=True)
    for name, default in (("steps", 5), ("microbatches", 8), ("sequences", 2), ("length", 256), ("seed", 1), ("warmup", 0),
                          ("replicas", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in (("lr", 1e-3), ("weight-decay", 0.1), ("clip", 0.0), ("validation-share", 0.05), ("min-share", 1.0)):
        parser.add_argument(f"--{name}", type=float, default=default)
    return parser.parse_args()


def learning_rate(args: argparse.Namespace, step: int) -> float:
    if step < args.warmup:
        return args.lr * (step + 1) / args.warmup
    progress = min(1.0, (step - args.warmup) / max(1, args.steps - args.warmup))
    return args.lr * (args.min_share + (1 - args.min_share) * 0.5 * (1 + math.cos(math.pi * progress)))


def loaded_stage(args: argparse.Namespace, config: dict, index: int, stages: int) -> llama.Stage:
    stage = llama.Stage(config, index, stages, args.length)
    stage.load(args.model)
    return stage


class CollectiveClock:
    """Time in which the calling thread stands in FSDP2's all-gathers and reduce-scatters: communication that nothing hides."""

    def __init__(self) -> None:
        self.ns, self.calls, self.asynchronous = 0, 0, {}
        for name in ("all_gather_single", "reduce_scatter_single", "all_gather_into_tensor", "reduce_scatter_tensor"):
            if hasattr(dist, name):  # FSDP2 calls the first two where torch has them, else the others
                setattr(dist, name, self.timed(getattr(dist, name)))
        wait = dist.Work.wait

        def timed_wait(work: dist.Work, *args: object) -> object:
            begin = time.perf_counter_ns()
            try:
                return wait(work, *args)
            finally:
                if self.asynchronous.pop(id(work), None) is not None:
                    self.ns += time.perf_counter_ns() - begin

        dist.Work.wait = timed_wait

    def timed(self, collective: Callable) -> Callable:
        def call(*args: object, **keywords: object) -> dist.Work | None:
            begin = time.perf_counter_ns()
            self.calls += 1
            work = collective(*args, **keywords)
            if work is None:
                self.ns += time.perf_counter_ns() - begin
            else:
                self.asynchronous[id(work)] = work  # kept, so that its id is its own
            return work
        return call

    def take(self) -> int:
        taken, self.ns = self.ns, 0
        return taken


class Single:
    """One process: the micro-batches one after the other."""

    def __init__(self, args: argparse.Namespace, config: dict) -> None:
        self.stages, self.replica = [loaded_stage(args, config, 0, 1)], 0
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
        # As plait numbers them: replicas of a pipeline rank are neighbours.
        mesh = init_device_mesh("cpu", (dist.get_world_size() // args.replicas, args.replicas), mesh_dim_names=("pipeline", "data"))
        rank, ranks, self.replica = mesh.get_local_rank("pipeline"), mesh["pipeline"].size(), mesh.get_local_rank("data")
        dualpipe = args.schedule == "dualpipe-v"
        count = 2 * ranks if dualpipe else ranks
        mine = [rank, 2 * ranks - 1 - rank] if dualpipe else [rank]
        self.stages = [loaded_stage(args, config, index, count) for index in mine]
        if args.replicas > 1:  # as torchtitan does beside pipelining: whole from the first use to the last
            for stage in self.stages:
                for layer in stage.model.layers.values():
                    fully_shard(layer, mesh=mesh["data"], reshard_after_forward=False)
                fully_shard(stage, mesh=mesh["data"], reshard_after_forward=False)
        pipeline = [PipelineStage(stage, index, count, torch.device("cpu"), group=mesh.get_group("pipeline"))
                    for stage, index in zip(self.stages, mine)]
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
    clock = CollectiveClock()
    trainer = (Single if args.schedule == "single" else Pipelined)(args, config)
    parameters = [p for stage in trainer.stages for p in stage.parameters()]
    groups = [{"params": [p for p in parameters if p.dim() > 1], "weight_decay": args.weight_decay},
              {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.95), eps=1e-8)
    text = sampler.training_part(args.text, args.validation_share)
    for step in range(args.steps):
        begin, cpu = time.perf_counter_ns(), time.process_time_ns()
        tokens, targets = (rows.chunk(args.replicas)[trainer.replica] for rows in
                           sampler.batch(text, args.seed, step, args.replicas * args.microbatches * args.sequences, args.length))
        clock.take()
        optimizer.zero_grad(set_to_none=False)
        loss = trainer.step(tokens, targets)
        norm = None
        if args.clip > 0:
            norm = torch.nn.utils.clip_grad_norm_(parameters, args.clip).item()  # of this process's parameters
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(args, step)
        optimizer.step()
        line = {"step": step + 1, "rank": int(os.environ.get("RANK", 0)), "step_ns": time.perf_counter_ns() - begin,
                "cpu_ns": time.process_time_ns() - cpu, "collective_ns": clock.take()}
        if trainer.has_loss:
            line.update(loss=loss, grad_norm=norm)
        print(json.dumps(line), flush=True)
    if args.replicas > 1 and clock.calls == 0:
        raise RuntimeError("FSDP2's collectives were not seen: they have other names in this torch")
    if args.schedule != "single":
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
