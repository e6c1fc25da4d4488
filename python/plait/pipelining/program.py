"""A rank's program as an object of Python, around the integer that the operators know it by."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from plait.schedule import Schedule

__all__ = ["DONE", "Instruction", "Program"]

#: What `Program.next` returns in place of an instruction; operator `next` of python/torch.
DONE = -1

_ACTION = re.compile(r"(\d+)([A-Z_]+?)(\d*)$")


class Instruction(NamedTuple):
    """One action of the rank's program: ``2F0`` is stage 2, type "F", micro-batch 0 (-1 without one)."""

    stage: int
    type: str
    microbatch: int


class Program:
    """A proven schedule, lowered for one rank of a process group.

    Raises:
        RuntimeError: what is wrong with the schedule.
    """

    def __init__(self, schedule: Schedule, rank: int, group: dist.ProcessGroup | None) -> None:
        group = group or dist.group.WORLD
        assert group is not None
        self.rank = rank
        self.handle: int = torch.ops.plait.make(schedule.text("plait"), rank, group.group_name, _timeout_of(group))
        self.instructions = [_instruction(text) for text in torch.ops.plait.actions(self.handle)]
        # Looked up once: the path through torch.ops costs as much as the call.
        self.begin: Any = torch.ops.plait.begin.default._op
        self.next: Any = torch.ops.plait.next.default._op

    def where(self) -> str:
        """ "in 2B4 on rank 1", "waits in 3RECV_F5 from rank 1 on rank 2"."""
        return f"{torch.ops.plait.where(self.handle)} on rank {self.rank}"

    def stop_before(self, instructions: list[int]) -> None:
        """These are handed out before they run."""
        torch.ops.plait.stop_before(self.handle, instructions)

    def counts(self) -> tuple[int, int]:
        """Steps begun; I's of the last step that ran the whole B."""
        steps, whole = torch.ops.plait.counts(self.handle)
        return steps, whole

    def whole_backwards(self) -> list[int]:
        """By stage, the I's of the last step that ran the whole B."""
        whole: list[int] = torch.ops.plait.whole_backwards(self.handle)
        return whole

    def times(self) -> torch.Tensor:
        """Of the last step, int64 [instructions, 2]: begin and end in ns."""
        times: torch.Tensor = torch.ops.plait.times(self.handle)
        return times

    def __del__(self) -> None:
        handle = getattr(self, "handle", None)
        if handle is not None and torch is not None:
            torch.ops.plait.close(handle)


def _instruction(text: str) -> Instruction:
    match = _ACTION.match(text)
    assert match is not None, text
    return Instruction(int(match[1]), match[2], int(match[3]) if match[3] else -1)


def _timeout_of(group: dist.ProcessGroup) -> float:
    """Seconds that one wait for another rank may take: the group's own."""
    options = getattr(group._get_backend(torch.device("cpu")), "options", None)
    timeout = getattr(options, "_timeout", None)
    return float(timeout.total_seconds()) if timeout is not None else 1800.0
