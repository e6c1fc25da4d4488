"""Replicas that share out what they hold train bit for bit as one process: over Gloo in CI, the whole product in the nightly.

plait/train/shard_test.cc has the covering set in-process. Wrong input is refused with what was needed.
"""

import itertools
import unittest

import command

MODES = ("none", "optimizer", "gradients", "parameters")
MIXTURE = ("--set", "model.architecture=deepseek-v3", "--set", "model.hidden_size=32", "--set", "model.n_routed_experts=4",
           "--set", "model.num_experts_per_tok=2", "--set", "model.moe_intermediate_size=24", "--set",
           "model.first_k_dense_replace=1", "--set", "model.bias_update_speed=0.01")
TRAITS = {
    "plain": (),
    "tied": ("--set", "model.tie_word_embeddings=true"),
    "experts": MIXTURE,
    "expert ranks": (*MIXTURE, "--set", "parallel.expert=2"),
    "recompute": ("--set", "parallel.recompute=full"),
    "braid": (*MIXTURE, "--set", "parallel.expert=2", "--set", "parallel.pairs=braid"),
    "clip": ("--set", "optimizer.clip_norm=0.01"),
    "accumulate": ("--set", "optimizer.accumulate=2"),
}
PRODUCT = {"schedule": ("1f1b", "zbv", "dualpipe-v", "interleaved-1f1b"), "data": (2, 3), "trait": tuple(TRAITS),
           "comm": ("inproc", "gloo"), "mode": MODES}


class ShardParity(command.CommandTest):
    def run_case(self, name: str, schedule: str, data: int, trait: str, *more: str) -> tuple:
        ranks = 2 if "expert" in trait or trait == "braid" else 1
        columns = data * (ranks if trait != "experts" else 1)
        batch = 4 * columns * (2 if trait == "accumulate" else 1)
        return self.train_for_parity(name, "--schedule", schedule, "--set", f"parallel.data={data}", "--set",
                                     f"run.batch_size={batch}", *TRAITS[trait], *more)

    def assert_parity(self, schedule: str, data: int, trait: str, comms: tuple, modes: tuple) -> None:
        reference = self.run_case("reference", schedule, data, trait, "--reference")
        for comm, mode in itertools.product(comms, modes):
            with self.subTest(schedule=schedule, data=data, trait=trait, comm=comm, mode=mode):
                run = self.run_case("sharded", schedule, data, trait, "--comm", comm, "--set", f"parallel.shard={mode}")
                self.assert_same_training(run, reference)

    def test_over_gloo(self) -> None:
        self.assert_parity("dualpipe-v", 2, "tied", ("gloo",), ("parameters",))
        self.assert_parity("1f1b", 2, "accumulate", ("gloo",), ("optimizer", "gradients"))

    @unittest.skipUnless(command.NIGHTLY, "the whole product is for the nightly")
    def test_all(self) -> None:
        for schedule, data, trait in itertools.product(PRODUCT["schedule"], PRODUCT["data"], PRODUCT["trait"]):
            if trait == "tied" and schedule in ("1f1b", "interleaved-1f1b"):
                continue  # its two ends lie on different ranks
            self.assert_parity(schedule, data, trait, PRODUCT["comm"], MODES)

    def test_the_plan_names_the_mode(self) -> None:
        shape = ("--schedule", "1f1b", "--set", "parallel.data=2", "--set", "run.batch_size=8", "--dry-run")
        plan = self.train(*shape, "--set", "parallel.shard=gradients").stdout
        self.assertIn("shard: gradients and optimiser state are cut over 2 replicas (ZeRO-2)\n", plan)
        self.assertNotIn("nothing to do", plan)
        self.assertNotIn("shard:", self.train(*shape).stdout)

    def test_wrong_input(self) -> None:
        for arguments, needed in (
                (("--set", "parallel.shard=zero-1", "--set", "parallel.data=2"),
                 "shard is 'zero-1', needed none, optimizer, gradients, parameters"),
                (("--set", "parallel.shard=optimizer"),
                 "parallel.shard does not apply: parallel.data and parallel.expert are 1: there are no replicas")):
            with self.subTest(arguments=arguments):
                result = self.train(*arguments)
                self.assertEqual(result.returncode, 2, result.stderr)
                self.assertIn(needed, result.stderr)

    def test_a_file_that_unshards_only_some_stages_is_refused(self) -> None:
        shape = ("--ranks", "2", "--microbatches", "4")
        lowered = self.plait("make", "1f1b", *shape, "--lower").stdout
        (self.folder / "s.csv").write_text(lowered.replace("1UNSHARD", "").replace("1RESHARD", ""))
        result = self.train("--schedule", "s.csv", "--set", "parallel.data=2", "--set", "run.batch_size=8", "--set",
                            "parallel.shard=parameters")
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertIn("stage 1 has no UNSHARD on rank 1, needed one as several ranks share out its parameters", result.stderr)


if __name__ == "__main__":
    unittest.main()
