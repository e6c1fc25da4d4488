"""The schedules that torch.distributed.pipelining has: our order, idle slots and communication are torch's, byte for byte.

Where torch 2.13 is wrong ours is right, and the difference is stated here: its 1F1B order starts at F1 on the last rank, and
its GPipe and 1F1B orders already hold REDUCE_GRAD.
"""

import re
import unittest

import torch_runtime

CHUNKS = {
    "interleaved-1f1b": ("Interleaved1F1B", (2, 3)),
    "interleaved-zero-bubble": ("InterleavedZeroBubble", (2, 3)),
    "looped-bfs": ("LoopedBFS", (2, 3)),
    "zbv": ("ZBVZeroBubble", (2,)),
    "dualpipe-v": ("DualPipeV", (2,)),
}
RANKS = (1, 2, 3, 4, 8)
MICROBATCHES = (1, 3, 4, 6, 8, 12)


class TorchOrders(unittest.TestCase):
    def compare(self, lowered: bool) -> None:
        cases = 0
        for ours, (theirs, all_chunks) in CHUNKS.items():
            for ranks, microbatches, chunks in ((r, m, v) for r in RANKS for m in MICROBATCHES for v in all_chunks):
                expected = torch_runtime.torch_order(theirs, ranks, microbatches, chunks, with_comms=lowered)
                result = torch_runtime.plait("make", ours, "--ranks", ranks, "--microbatches", microbatches, "--chunks", chunks,
                                             *(["--lower"] if lowered else []))
                with self.subTest(schedule=ours, ranks=ranks, microbatches=microbatches, chunks=chunks):
                    if expected is None:
                        self.assertEqual(result.returncode, 2, "torch refuses this shape")
                    else:
                        self.assertEqual(result.stdout, expected)
                        cases += 1
        self.assertGreaterEqual(cases, 150)

    def test_orders(self) -> None:
        self.compare(lowered=False)

    def test_lowered(self) -> None:
        self.compare(lowered=True)

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
