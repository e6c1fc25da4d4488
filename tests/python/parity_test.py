"""Pipelined training is bit-equal to the one-process reference: losses, gradients, parameters, after three steps.

A covering set of {gpipe, 1f1b, dualpipe-v} x ranks 1..4 x {in-process, Gloo} x {layers even, uneven} x {M a multiple of P, or not}:
every value occurs, in CI every pair of two, and the rest is left to the nightly, which runs all. One reference serves all of an M. Tied
embeddings where they are legal, at equal intra-op threads.
"""

import itertools
import json
import sys
import unittest

import command

MODEL = ("--set", "model.num_attention_heads=2")
LAYERS = 9
SHAPES = {"schedule": ("gpipe", "1f1b", "dualpipe-v"), "ranks": (1, 2, 3, 4), "comm": ("inproc", "gloo"), "even": (True, False),
          "microbatches": (8, 9)}


class Parity(command.CommandTest):
    def run_case(self, name: str, *arguments: str) -> tuple[list, bytes, bytes, list]:
        return self.train_for_parity(name, *MODEL, *arguments)

    @staticmethod
    def layers(stages: int, even: bool) -> list[int]:
        """Of each stage: as many as the others or one more, or one and the first the rest."""
        if not even:
            return [LAYERS - stages + 1] + [1] * (stages - 1)
        return [LAYERS // stages + (stage >= stages - LAYERS % stages) for stage in range(stages)]

    def test_shapes(self) -> None:
        rows = command.covering(SHAPES)
        if command.NIGHTLY:
            rows = [dict(zip(SHAPES, row)) for row in itertools.product(*SHAPES.values())]
        references = {}
        for row in rows:
            microbatches = row["microbatches"]
            model = ("--microbatches", str(microbatches), "--set", f"run.batch_size={2 * microbatches}", "--set",
                     f"model.num_hidden_layers={LAYERS}")
            if microbatches not in references:
                references[microbatches] = self.run_case("reference", "--reference", "--schedule", "1f1b", *model)
            stages = row["ranks"] * (2 if row["schedule"] == "dualpipe-v" else 1)
            with self.subTest(**row):
                run = self.run_case("pipelined", *model, "--schedule", row["schedule"], "--ranks", str(row["ranks"]), "--comm",
                                    row["comm"], "--set", f"parallel.layers_per_stage={self.layers(stages, row['even'])}")
                self.assert_same_training(run, references[microbatches])

    def test_embedding_and_head_on_stages_of_their_own(self) -> None:
        model = ("--microbatches", "8", "--set", "run.batch_size=16", "--set", f"model.num_hidden_layers={LAYERS}")
        reference = self.run_case("reference", "--reference", "--schedule", "1f1b", *model)
        for schedule, ranks, comm, layers in (("1f1b", 4, "gloo", "[0,4,5,0]"), ("zbv", 2, "inproc", "[0,5,4,0]"),
                                              ("gpipe", 3, "inproc", "[0,9,0]")):
            with self.subTest(schedule=schedule):
                run = self.run_case("pipelined", *model, "--schedule", schedule, "--ranks", str(ranks), "--comm", comm, "--set",
                                    f"parallel.layers_per_stage={layers}")
                self.assert_same_training(run, reference)
        result = self.train(*model, "--schedule", "1f1b", "--ranks", "3", "--set", "parallel.layers_per_stage=[5,0,4]")
        self.assertEqual(result.returncode, 2)
        self.assertIn("stage 1 would hold nothing", result.stderr)

    def test_the_plan_names_what_each_stage_holds(self) -> None:
        plan = self.train(*MODEL, "--schedule", "1f1b", "--ranks", "2", "--dry-run").stdout
        self.assertRegex(plan, r"\n +0 +0  embedding, layers 0-\d +\d+ ")
        self.assertRegex(plan, r"\n +1 +1  layers \d-\d, head +\d+ ")

    def test_tied_embeddings(self) -> None:
        model = ("--microbatches", "8", "--set", "run.batch_size=16", "--set", "model.tie_word_embeddings=true")
        reference = self.run_case("reference", "--reference", *model)
        for schedule, ranks, comm in (("dualpipe-v", 1, "inproc"), ("dualpipe-v", 2, "gloo"), ("dualpipe-v", 4, "inproc"),
                                      ("gpipe", 1, "gloo"), ("1f1b", 1, "inproc")):
            with self.subTest(schedule=schedule, ranks=ranks, comm=comm):
                run = self.run_case("pipelined", *model, "--schedule", schedule, "--ranks", str(ranks), "--comm", comm)
                self.assert_same_training(run, reference)

    def test_a_run_that_recomputes_has_the_events_that_are_predicted(self) -> None:
        def events(file: str) -> list[tuple]:
            trace = json.loads((self.folder / file).read_text())["traceEvents"]
            return sorted((one["pid"], one["tid"], one["args"]["instruction"], one["name"], str(one["args"].get("awaited")))
                          for one in trace if one["ph"] == "X" and one["tid"] == 0)

        shape = ("--ranks", "2", "--microbatches", "4")
        self.assertEqual(self.train("--schedule", "zbv", *shape, "--record", "2", "--set", "parallel.recompute=full").returncode, 0)
        (self.folder / "lowered").write_text(self.plait("opt", "zbv", *shape, "--passes=insert-comm", "--format", "plait").stdout)
        self.plait("simulate", "lowered", "--recompute-ns", "1", "--timeline", "predicted.json")
        self.assertEqual(len(events("predicted.json")), 4 * 4 * 4)  # F, R, I and W of four stages
        self.assertEqual(events("predicted.json"), events("runs/job/timeline.json"))

    def test_every_action_of_a_lowered_file_is_carried_out(self) -> None:
        """UNSHARD, RESHARD, REDUCE_GRAD and waits are instructions: counted in the plan, seen in timelines, and no bit changes."""
        shape = ("--ranks", "2", "--microbatches", "4")
        (self.folder / "s.csv").write_text(self.plait("make", "gpipe", *shape, "--lower").stdout)
        plain = self.run_case("plain", "--schedule", "gpipe", *shape)
        run = self.run_case("lowered", "--schedule", "s.csv", *shape, "--record", "2")
        self.assert_same_training(run, plain)
        plan = self.train("--schedule", "s.csv", *shape, "--dry-run").stdout
        self.assertIn("UNSHARD and RESHARD: 4 instructions with nothing to do, parameters are held whole\n", plan)
        self.assertIn("REDUCE_GRAD and its wait: 4 instructions with nothing to do, no two ranks hold the same parameters\n", plan)
        self.assertNotIn("nothing to do", self.train("--schedule", "gpipe", *shape, "--dry-run").stdout)
        self.plait("simulate", "s.csv", "--timeline", "predicted.json")

        def events(file: str) -> set[tuple]:
            trace = json.loads((self.folder / file).read_text())["traceEvents"]
            return {(one["pid"], one["args"]["instruction"], one["name"]) for one in trace if one["ph"] == "X"}

        measured = events("runs/lowered/timeline.json")
        self.assertEqual(sum("SHARD" in name or "REDUCE" in name for _, _, name in measured), 8)
        self.assertEqual(sum("WAIT_SEND" in name for _, _, name in measured), 8)
        self.assertEqual(events("predicted.json"), measured)

    def test_a_file_of_torch_2_15_trains_with_the_same_bits(self) -> None:
        """With few sends outstanding, late ends of reductions and little ahead; also where replicas add their gradients up."""
        shape = ("--ranks", "2", "--microbatches", "4", "--set", "run.batch_size=8")
        for name in ("zbv", "interleaved-1f1b"):
            lowered = self.plait("make", name, *shape[:4], "--lower", "--max-active-stages", "2", "--unshard-lookahead", "auto",
                                 "--defer-reduce-grad-wait", "--max-outstanding-sends", "min")
            self.assertIn("WAIT_REDUCE_GRAD", lowered.stdout)
            (self.folder / "lowered.csv").write_text(lowered.stdout)
            for replicas in ("1", "2"):
                with self.subTest(schedule=name, replicas=replicas):
                    data = ("--set", f"parallel.data={replicas}")
                    plain = self.run_case("plain", "--schedule", name, *shape, *data)
                    run = self.run_case("lowered", "--schedule", "lowered.csv", *shape, *data)
                    self.assert_same_training(run, plain)

    def test_dropout_is_the_same_whatever_runs_it(self) -> None:
        job = ("--microbatches", "8", "--set", "run.batch_size=16", "--set", "model.hidden_dropout=0.1")
        runs = (("--schedule", "dualpipe-v", "--ranks", "4"), ("--schedule", "1f1b", "--ranks", "2"),
                ("--schedule", "zbv", "--ranks", "2", "--comm", "gloo"))
        references = {}
        for row in command.covering({"more": runs, "threads": (1, 3), "recompute": ("none", "full")}):
            threads = row["threads"]
            at_threads = (*job, "--set", f"run.threads={threads}")
            if threads not in references:
                references[threads] = self.run_case("reference", "--reference", *at_threads)
            with self.subTest(**row):
                run = self.run_case("pipelined", *at_threads, *row["more"], "--set", f"parallel.recompute={row['recompute']}")
                self.assert_same_training(run, references[threads])

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
        # The model's keys are the file's.
        start = ("--set", "model.init=runs/first/model", "--set", "run.seed=9")
        reference = self.train_for_parity("reference", "--reference", *start)
        for comm in ("inproc", "gloo"):
            with self.subTest(comm=comm):
                self.assert_same_training(self.train_for_parity("pipelined", "--comm", comm, *start), reference)


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
