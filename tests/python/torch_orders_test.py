"""The schedules that torch.distributed.pipelining has: our order, idle slots and communication are torch's, byte for byte.

Where torch 2.13 is wrong ours is right, and the difference is stated here: its 1F1B order starts at F1 on the last rank, and
its GPipe and 1F1B orders already hold REDUCE_GRAD.
"""

import contextlib
import io
import subprocess
import unittest

import command
from torch.distributed.pipelining._schedule_visualizer import get_schedule_ops

SHAPES = {
    "interleaved-1f1b": ("Interleaved1F1B", (2, 3, 4)),
    "interleaved-zero-bubble": ("InterleavedZeroBubble", (2, 3, 4)),
    "looped-bfs": ("LoopedBFS", (2, 3, 4)),
    "zbv": ("ZBVZeroBubble", (2,)),
    "dualpipe-v": ("DualPipeV", (2,)),
}


def plait(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([command.PLAIT, *arguments], capture_output=True, text=True, check=False)


def torch_csv(name: str, ranks: int, microbatches: int, chunks: int, with_comms: bool = False) -> str:
    with contextlib.redirect_stdout(io.StringIO()):
        lists = get_schedule_ops(name, ranks, microbatches, num_stages_per_rank=chunks, with_comms=with_comms)
    return "".join(",".join("" if action is None else str(action) for action in one) + "\n" for one in lists)


class TorchOrders(unittest.TestCase):
    def compare(self, ours: str, theirs: str, chunks: tuple[int, ...], lowered: bool) -> int:
        cases = 0
        for ranks in (1, 2, 3, 4, 8):
            for microbatches in (1, 2, 3, 4, 5, 6, 8, 12, 16, 20):
                for v in chunks:
                    try:
                        expected = torch_csv(theirs, ranks, microbatches, v, lowered)
                    except (ValueError, AssertionError):
                        expected = None
                    result = plait("make", ours, "--ranks", str(ranks), "--microbatches", str(microbatches), "--chunks", str(v),
                                   *(["--lower"] if lowered else []))
                    with self.subTest(schedule=ours, ranks=ranks, microbatches=microbatches, chunks=v, lowered=lowered):
                        if expected is None:
                            self.assertEqual(result.returncode, 2, "torch refuses this shape")
                        else:
                            self.assertEqual(result.stdout, expected)
                            cases += 1
        return cases

    def test_orders(self) -> None:
        cases = sum(self.compare(ours, theirs, chunks, False) for ours, (theirs, chunks) in SHAPES.items())
        self.assertGreater(cases, 150)

    def test_lowered(self) -> None:
        cases = sum(self.compare(ours, theirs, chunks, True) for ours, (theirs, chunks) in SHAPES.items())
        self.assertGreater(cases, 150)


if __name__ == "__main__":
    unittest.main()
