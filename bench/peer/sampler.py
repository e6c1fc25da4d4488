"""plait's sampler (plait/train/dataset.h, sample_starts): where a step's sequences begin, by (seed, step)."""

import pathlib

import torch

MASK = (1 << 64) - 1


def mix(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def batch(text: bytes, seed: int, step: int, count: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and targets [count, length] of one step."""
    key = mix(mix(seed) ^ step)
    starts = [mix(key ^ mix(i)) % (len(text) - length) for i in range(count)]
    rows = torch.stack([torch.frombuffer(bytearray(text[s:s + length + 1]), dtype=torch.uint8).long() for s in starts])
    return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()


def training_part(path: pathlib.Path, validation_share: float) -> bytes:
    text = path.read_bytes()
    return text[:len(text) - int(len(text) * validation_share)]
