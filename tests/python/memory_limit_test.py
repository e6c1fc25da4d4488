"""What a plan says of memory holds in the run, a limit below it is refused, and a dispatch of more rows than were allowed for
ends the run on all ranks."""

import json
import sys
import unittest

import command

MIXTURE = {"architecture": "deepseek-v3", "n_routed_experts": 8, "n_shared_experts": 1, "num_experts_per_tok": 2,
           "moe_intermediate_size": 24, "hidden_size": 32, "first_k_dense_replace": 1}


class MemoryLimit(command.CommandTest):
    def setUp(self) -> None:
        super().setUp()
        self.write_job(model=MIXTURE, parallel={"expert": 2, "pairs": "braid"}, run={"batch_size": 16})

    def planned(self, *arguments: str) -> list[tuple[float, int]]:
        """By rank of the pipeline: activations in MB, everything in bytes."""
        result = self.train("--dry-run", *arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        rows = [line.split() for line in result.stdout.splitlines()[-2:]]
        return [(float(row[-2]), int(row[-1])) for row in rows]

    def test_a_limit_at_what_is_needed_and_one_byte_below(self) -> None:
        for more in ((), ("--set", "parallel.recompute=full"), ("--schedule", "1f1b"), ("--set", "parallel.token_bound=1.5"),
                     ("--set", "parallel.shard=parameters")):
            with self.subTest(more=more):
                totals = [total for _, total in self.planned(*more)]
                limit = max(totals)
                self.planned(*more, "--set", f"parallel.memory_limit_bytes={limit}")
                before = self.files()
                result = self.train(*more, "--set", f"parallel.memory_limit_bytes={limit - 1}")
                self.assertEqual(result.returncode, 2, result.stderr)
                first = 2 * totals.index(limit)
                self.assertIn(f"each of ranks {first} to {first + 1} needs up to {limit} bytes, memory_limit_bytes is {limit - 1}",
                              result.stderr)
                self.assertEqual(self.files(), before)

    def test_runs_stay_below_the_plan(self) -> None:
        for comm, recompute in (("inproc", "none"), ("gloo", "none"), ("gloo", "full")):
            with self.subTest(comm=comm, recompute=recompute):
                more = ("--comm", comm, "--set", f"parallel.recompute={recompute}", "--overwrite")
                planned = [activations for activations, _ in self.planned(*more)]
                result = self.train(*more)
                self.assertEqual(result.returncode, 0, result.stderr)
                lines = (self.folder / "runs/job/metrics.jsonl").read_text().splitlines()[1:]
                for line in [json.loads(line) for line in lines]:
                    for rank, peak in enumerate(line.get("peak_activation_bytes", [])):
                        self.assertLessEqual(peak, 1e6 * (planned[rank // 2] + 0.05))  # printed with one place

    def test_more_rows_than_the_bound_end_the_run(self) -> None:
        for run in (("--comm", "inproc"), ("--comm", "gloo"), ("--reference",)):
            with self.subTest(run=run):
                result = self.train("--set", "parallel.token_bound=1.0", "--overwrite", *run, timeout=40)
                self.assertEqual(result.returncode, 1, result.stdout + result.stderr)
                # 2 sequences of 8 tokens with 2 copies each; ranks and stages by who comes first.
                needed = (r"step 1: layers\.\d\.dispatch would bring \d+ rows, parallel\.token_bound 1 allows 32 "
                          r"\(the even share is 32\)")
                where = r"segment layers\.\d\.dispatch, micro-batch \d: "
                if run != ("--reference",):
                    where = r"rank \d in \dF\d dispatch \d, " + where
                self.assertRegex(result.stderr, where + needed)

    def test_a_bound_that_is_not_reached_changes_nothing(self) -> None:
        without = self.train_for_parity("without")
        self.assert_same_training(self.train_for_parity("bounded", "--set", "parallel.token_bound=2.0"), without)

    def test_wrong_bounds_are_refused(self) -> None:
        for setting, needed in (("token_bound=0.5", "token_bound is 0.5, needs to be 0, or at least 1"),
                                ("memory_limit_bytes=-1", "memory_limit_bytes is -1, needs to be at least 0")):
            result = self.train("--set", f"parallel.{setting}")
            self.assertEqual(result.returncode, 2, result.stderr)
            self.assertIn(needed, result.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
