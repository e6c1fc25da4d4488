#!/usr/bin/env python3
"""Trains the Llama of a job.toml in plain torch on one device: the micro-batches one after the other, torch's fused AdamW.

Prints a JSON line a step, and one with the most bytes that the device held.
"""

import argparse
import json
import pathlib
import sys
import time
import tomllib

import torch

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "peer"))
import llama  # noqa: E402
import sampler  # noqa: E402

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def train(job: dict, device: str, steps: int, dtype: torch.dtype) -> None:
    model, parallel, optimizer = job["model"], job["parallel"], job.get("optimizer", {})
    model = {"rms_norm_eps": 1e-5, "rope_theta": 10000.0, **model}
    length = job["data"]["sequence_length"]
    torch.manual_seed(1)
    with torch.device(device):
        stage = llama.Stage(model, 0, 1, length)
    parameters = list(stage.parameters())
    adamw = torch.optim.AdamW(parameters, lr=optimizer.get("lr", 3e-3), betas=(0.9, 0.95), weight_decay=0.1,
                              fused=device == "cuda")
    text = sampler.training_part(pathlib.Path(job["data"]["train"]), 0.0)
    for step in range(steps):
        synchronize(device)
        begin, cpu = time.perf_counter_ns(), time.thread_time_ns()
        tokens, targets = (part.to(device) for part in sampler.batch(text, 1, step, job["run"]["batch_size"], length))
        adamw.zero_grad(set_to_none=True)
        total = torch.zeros((), device=device)
        count = parallel["microbatches"]
        for x, y in zip(tokens.chunk(count), targets.chunk(count)):
            with torch.autocast(device, dtype, enabled=dtype != torch.float32):
                loss = llama.loss_of(stage(x), y) / count
            loss.backward()
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(parameters, optimizer.get("clip_norm", 1.0), foreach=True)
        adamw.step()
        issued, issued_cpu = time.perf_counter_ns() - begin, time.thread_time_ns() - cpu
        loss = total.item()
        print(json.dumps({"step": step + 1, "loss": loss, "step_ns": time.perf_counter_ns() - begin, "issued_ns": issued,
                          "cpu_ns": issued_cpu, "tokens": tokens.numel()}), flush=True)
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    print(json.dumps({"peak_bytes": peak, "parameters": sum(p.numel() for p in parameters)}))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("job", type=pathlib.Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of products: bfloat16 by torch's autocast")
    arguments = parser.parse_args()
    train(tomllib.loads(arguments.job.read_text()), arguments.device, arguments.steps, DTYPES[arguments.dtype])


if __name__ == "__main__":
    main()
