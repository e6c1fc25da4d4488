"""Pipelined training is bit-equal to the one-process reference: losses, gradients, parameters, after three steps.

{gpipe, 1f1b, dualpipe-v} x ranks 1..4 x {in-process, Gloo} x {even, uneven layers} x {M = 2P, M not a multiple of P}, and
tied embeddings where they are legal, at equal intra-op threads.
"""

import sys
import unittest

import command

MODEL = ("--set", "model.num_attention_heads=2")


class Parity(command.CommandTest):
    def run_case(self, name: str, *arguments: str) -> tuple[list, bytes, bytes, list]:
        return self.train_for_parity(name, *MODEL, *arguments)

    def assert_parity(self, *arguments: str) -> None:
        reference = self.run_case("reference", "--reference", *arguments)
        for comm in ("inproc", "gloo"):
            with self.subTest(arguments=arguments, comm=comm):
                pipelined = self.run_case("pipelined", "--comm", comm, *arguments)
                self.assert_same_training(pipelined, reference)

    def shapes(self, schedule: str, ranks: int):
        stages = 2 * ranks if schedule == "dualpipe-v" else ranks
        # The first stage of an uneven split has one layer more than the others.
        for layers in ([1] * stages, [2] + [1] * (stages - 1)):
            for microbatches in {2 * ranks, 2 * ranks + 1} if ranks > 1 else {2}:
                yield ("--schedule", schedule, "--ranks", str(ranks), "--microbatches", str(microbatches), "--set",
                       f"run.batch_size={2 * microbatches}", "--set", f"model.num_hidden_layers={sum(layers)}", "--set",
                       f"parallel.layers_per_stage={layers}")

    def check_schedule(self, schedule: str) -> None:
        for ranks in (1, 2, 3, 4):
            for arguments in self.shapes(schedule, ranks):
                self.assert_parity(*arguments)

    def test_gpipe(self) -> None:
        self.check_schedule("gpipe")

    def test_1f1b(self) -> None:
        self.check_schedule("1f1b")

    def test_dualpipe_v(self) -> None:
        self.check_schedule("dualpipe-v")

    def test_tied_embeddings(self) -> None:
        for schedule, ranks in (("dualpipe-v", 1), ("dualpipe-v", 2), ("dualpipe-v", 4), ("gpipe", 1), ("1f1b", 1)):
            self.assert_parity("--schedule", schedule, "--ranks", str(ranks), "--microbatches", str(2 * ranks), "--set",
                               f"run.batch_size={4 * ranks}", "--set", "model.tie_word_embeddings=true")

    def test_dropout_is_the_same_whatever_runs_it(self) -> None:
        job = ("--microbatches", "8", "--set", "run.batch_size=16", "--set", "model.hidden_dropout=0.1")
        for threads in (1, 3):
            at_threads = (*job, "--set", f"run.threads={threads}")
            reference = self.run_case("reference", "--reference", *at_threads)
            for more in (("--schedule", "dualpipe-v", "--ranks", "4"), ("--schedule", "1f1b", "--ranks", "2"),
                         ("--schedule", "zbv", "--ranks", "2", "--comm", "gloo")):
                for recompute in ("none", "full"):
                    with self.subTest(threads=threads, more=more, recompute=recompute):
                        run = self.run_case("pipelined", *at_threads, *more, "--set", f"parallel.recompute={recompute}")
                        self.assert_same_training(run, reference)

    def test_dropout_is_of_training_only(self) -> None:
        still = ("--set", "optimizer.lr=1e-30", "--set", "optimizer.warmup_steps=0", "--reference")  # weights stay
        without = self.run_case("without", *still)
        dropped = self.run_case("dropped", *still, "--set", "model.hidden_dropout=0.3")
        self.assertTrue(without[2] == dropped[2], "parameters moved")
        for one, other in zip(without[0][:3], dropped[0][:3], strict=True):
            self.assertNotEqual(one, other)
        self.assertEqual(without[0][3], dropped[0][3])

    def test_a_difference_would_be_seen(self) -> None:
        one = self.run_case("one", "--reference")
        other = self.run_case("other", "--reference", "--set", "run.seed=8")
        self.assertNotEqual(one[0], other[0])
        self.assertFalse(one[1] == other[1])
        self.assertFalse(one[2] == other[2])

    def test_starting_from_a_model_is_the_same_on_every_rank(self) -> None:
        self.run_case("first", "--reference")
        self.assert_parity("--set", "model.init=runs/first/model", "--set", "run.seed=9")


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
