"""The schedules that torch.distributed.pipelining has: our order, idle slots and communication are torch's, byte for byte.

All shapes are compared as orders; with their communication, which takes torch long, a covering set in which every pair of
schedule and chunks, ranks and micro-batches occurs, and all in the nightly.

Where torch 2.13 is wrong ours is right, and the difference is stated here: its 1F1B order starts at F1 on the last rank, and
its GPipe and 1F1B orders already hold REDUCE_GRAD.
"""

import itertools
import re
import unittest

import command
import torch_runtime

NAMES = {"interleaved-1f1b": "Interleaved1F1B", "interleaved-zero-bubble": "InterleavedZeroBubble", "looped-bfs": "LoopedBFS",
         "zbv": "ZBVZeroBubble", "dualpipe-v": "DualPipeV"}
SHAPES = {"schedule": (*((name, chunks) for name in list(NAMES)[:3] for chunks in (2, 3)), ("zbv", 2), ("dualpipe-v", 2)),
          "ranks": (1, 2, 3, 4, 8), "microbatches": (1, 3, 4, 6, 8, 12)}
ALL = [dict(zip(SHAPES, row)) for row in itertools.product(*SHAPES.values())]


class TorchOrders(unittest.TestCase):
    def compare(self, shapes: list[dict], lowered: bool) -> int:
        cases = 0
        for shape in shapes:
            (ours, chunks), ranks, microbatches = shape.values()
            expected = torch_runtime.torch_order(NAMES[ours], ranks, microbatches, chunks, with_comms=lowered)
            result = torch_runtime.plait("make", ours, "--ranks", ranks, "--microbatches", microbatches, "--chunks", chunks,
                                         *(["--lower"] if lowered else []))
            with self.subTest(**shape):
                if expected is None:
                    self.assertEqual(result.returncode, 2, "torch refuses this shape")
                else:
                    self.assertEqual(result.stdout, expected)
                    cases += 1
        return cases

    def test_orders(self) -> None:
        self.assertGreaterEqual(self.compare(ALL, lowered=False), 150)

    def test_lowered(self) -> None:
        shapes = ALL if command.NIGHTLY else command.covering(SHAPES)
        self.assertGreaterEqual(self.compare(shapes, lowered=True), len(shapes) // 2)

    def test_gpipe_but_for_reduce_grad(self) -> None:
        for ranks, microbatches in ((2, 1), (4, 3), (4, 8)):
            theirs = torch_runtime.torch_order("GPipe", ranks, microbatches, 1)
            ours = torch_runtime.made("gpipe", ranks, microbatches)
            self.assertEqual(re.sub(r",\d+REDUCE_GRAD", "", theirs), ours)
            self.assertEqual(theirs.count("REDUCE_GRAD"), ranks)

    def test_one_f_one_b_but_for_the_last_rank(self) -> None:
        for ranks, microbatches in ((2, 2), (3, 5), (4, 8)):
            theirs = torch_runtime.torch_order("1F1B", ranks, microbatches, 1)
            ours = torch_runtime.made("1f1b", ranks, microbatches)
            *others, last = re.sub(r",\d+REDUCE_GRAD", "", theirs).splitlines()
            self.assertEqual(others, ours.splitlines()[:-1])
            # Its last rank has F1 to FM where F0 to F(M-1) are needed.
            self.assertEqual(re.sub(r"F(\d+)", lambda found: f"F{int(found[1]) - 1}", last), ours.splitlines()[-1])
            self.assertIn(f"F{microbatches}", last)


if __name__ == "__main__":
    unittest.main()
