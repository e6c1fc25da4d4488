"""Expert-parallel training is bit-equal to the one-process reference of the same expert groups and replicas: losses, norms,
gradients and parameters after three steps, braided or in sequence, recomputed or not, over both comms.

A reference without expert groups computes the same up to the order in which rows add up.

Of the product of schedules (all with pairs: where those are off, as they are made), pairs, recomputation, members of an expert
group and comm a covering set runs here: every value occurs, in CI (PLAIT_CI=1) every pair of two, but for groups of four over
Gloo, eight processes. The nightly (PLAIT_NIGHTLY=1) runs all, also from the schedules without pairs, and says how many agree.
"""

import itertools
import re
import sys
import time
import unittest

import command

MODEL = ("--set", "model.architecture=deepseek-v3",
         "--set", "model.hidden_size=32", "--set", "model.intermediate_size=64", "--set", "model.num_attention_heads=2",
         "--set", "model.num_key_value_heads=2", "--set", "model.n_routed_experts=8", "--set", "model.num_experts_per_tok=2",
         "--set", "model.n_shared_experts=1", "--set", "model.moe_intermediate_size=24", "--set",
         "model.first_k_dense_replace=1", "--set", "model.bias_update_speed=0.01", "--set",
         "model.router_aux_loss_coef=0.01")


def job(schedule: str, ranks: int, microbatches: int, layers: list[int], expert: int, data: int, *more: str) -> tuple:
    batch = 2 * microbatches * expert * data
    return ("--schedule", schedule, "--ranks", str(ranks), "--microbatches", str(microbatches), "--set",
            f"run.batch_size={batch}", "--set", f"model.num_hidden_layers={sum(layers)}", "--set",
            f"parallel.layers_per_stage={layers}", "--set", f"parallel.expert={expert}", "--set",
            f"parallel.data={data}", *more)


RANKS, MICROBATCHES, LAYERS = 2, 4, 4
UNPAIRED = ("1f1b", "interleaved-1f1b", "zbv", "v-half")
PAIRED = ("dualpipe-v", *(f"{name} with pairs" for name in UNPAIRED))
SCHEDULES = (*UNPAIRED, *PAIRED) if command.NIGHTLY else PAIRED
PRODUCT = {"schedule": SCHEDULES, "pairs": ("off", "sequence", "braid"), "recompute": ("none", "selective", "full"),
           "expert": (1, 2, 4), "comm": ("inproc", "gloo")}


class ExpertParity(command.CommandTest):
    def run_case(self, name: str, *arguments: str) -> tuple[list, bytes, bytes, list]:
        return self.train_for_parity(name, *MODEL, *arguments)

    @staticmethod
    def variant(comm: str, pairs: str, recompute: str) -> tuple:
        return ("--comm", comm, "--set", f"parallel.pairs={pairs}", "--set", f"parallel.recompute={recompute}")

    def write_schedule(self, name: str) -> None:
        how = ("opt", name.split()[0], "--passes=pair=1") if name.endswith("with pairs") else ("make", name)
        made = self.plait(*how, "--ranks", str(RANKS), "--microbatches", str(MICROBATCHES), "--format", "plait")
        self.assertEqual(made.returncode, 0, made.stderr)
        self.assertEqual("OVERLAP_F_B" in made.stdout, name in PAIRED, name)
        (self.folder / name).write_text(made.stdout)

    def assert_pairs(self, row: dict, counts: list[tuple[int, int]]) -> None:
        """Braided where the stages exchange rows, else in sequence; the first layer has no experts."""
        paired = row["pairs"] != "off" and row["schedule"] in PAIRED
        for braided, in_sequence in counts:
            self.assertEqual(braided + in_sequence > 0, paired)
            self.assertEqual(braided > 0, paired and row["pairs"] == "braid" and row["expert"] > 1)

    def test_product(self) -> None:
        begin, agreed = time.monotonic(), 0
        rows = command.covering(PRODUCT, lambda row: row["expert"] < 4 or row["comm"] == "inproc")
        if command.NIGHTLY:
            rows = [dict(zip(PRODUCT, row)) for row in itertools.product(*PRODUCT.values())]
        for name in SCHEDULES:
            self.write_schedule(name)
        references = {}
        for row in rows:
            expert = row["expert"]
            shape = ("--ranks", str(RANKS), "--microbatches", str(MICROBATCHES), "--set", f"run.batch_size={MICROBATCHES * expert}",
                     "--set", f"model.num_hidden_layers={LAYERS}", "--set", f"parallel.expert={expert}")
            if expert not in references:
                references[expert] = self.run_case("reference", "--reference", "--schedule", "1f1b", *shape)
            with self.subTest(**row):
                run = self.run_case("run", *shape, "--schedule", row["schedule"],
                                    *self.variant(row["comm"], row["pairs"], row["recompute"]))
                self.assert_same_training(run, references[expert])
                self.assert_pairs(row, run[3])
                agreed += 1
        print(f"{agreed} of {len(rows)} combinations agree with their reference bit for bit ({time.monotonic() - begin:.0f} s): " +
              " x ".join(f"{len(values)} {name}" for name, values in PRODUCT.items()) + "; none is left out" * command.NIGHTLY)

    def assert_parity(self, base: tuple, *variants: tuple) -> None:
        reference = self.run_case("reference", "--reference", *base)
        for variant in variants:
            with self.subTest(base=base, variant=variant):
                self.assert_same_training(self.run_case("pipelined", *base, *variant), reference)

    def test_a_braid_of_ones_own(self) -> None:
        # Recomputed long before its backward, and a W behind that of a later part.
        shown = self.plait("braid", "show", "--recompute", "mlp,attn").stdout
        compute = "compute: attn.R mlp.R attn.F mlp.B mlp.F attn.B attn.W mlp.W\n"
        (self.folder / "own.braid").write_text(re.sub("^compute: .*\n", compute, shown, flags=re.M))
        self.assert_parity(job("dualpipe-v", 2, 5, [2, 1, 1, 2], 2, 1), (*self.variant("inproc", "braid", "full"), "--set",
                                                                         "parallel.braid=own.braid"))

    def test_dropout(self) -> None:
        dropout = ("--set", "model.hidden_dropout=0.1")
        base = job("dualpipe-v", 2, 5, [2, 1, 1, 2], 2, 1, *dropout)
        self.assert_parity(base, self.variant("inproc", "braid", "full"), self.variant("inproc", "sequence", "none"),
                           self.variant("gloo", "braid", "selective"))
        self.assert_parity(job("1f1b", 2, 3, [1, 2], 2, 2, *dropout), self.variant("inproc", "braid", "none"))

    def test_replicas(self) -> None:
        for expert, data in ((1, 2), (2, 2), (1, 3)):
            self.assert_parity(job("1f1b", 2, 3, [1, 2], expert, data), self.variant("inproc", "braid", "none"))
        self.assert_parity(job("1f1b", 2, 3, [1, 2], 1, 2), self.variant("gloo", "sequence", "none"))

    def test_tied_embeddings(self) -> None:
        self.assert_parity(job("dualpipe-v", 2, 4, [1, 1, 1, 1], 2, 1, "--set", "model.tie_word_embeddings=true"),
                           self.variant("inproc", "braid", "none"))

    def test_a_rank_holds_its_share_of_the_experts(self) -> None:
        def weights(expert: int) -> float:
            run = self.train(*MODEL, "--dry-run", *job("dualpipe-v", 2, 4, [1, 1, 1, 1], expert, 1),
                             "--set", "model.moe_intermediate_size=512")
            self.assertEqual(run.returncode, 0, run.stderr)
            ranks, weight = run.stdout.splitlines()[-1].split()[:2]
            self.assertEqual(ranks, "1" if expert == 1 else "2-3")
            return float(weight)

        # Half of eight routed experts, and the shared one: 5 of 9 where they are nearly all that a layer holds.
        self.assertLess(weights(2), 0.6 * weights(1))

    def test_a_reference_without_groups_is_close(self) -> None:
        # Micro-batches hold the same sequences; rows meet their experts in other products. The balance loss and the bias
        # see other tokens together, so they are left out.
        off = ("--set", "model.router_aux_loss_coef=0", "--set", "model.bias_update_speed=0")
        grouped = self.run_case("grouped", "--reference", *job("dualpipe-v", 2, 4, [1, 1, 1, 1], 2, 1), *off)
        alone = self.run_case("alone", "--reference", "--schedule", "dualpipe-v", "--ranks", "2", "--microbatches", "4", "--set",
                              "run.batch_size=16", "--set", "model.num_hidden_layers=4", *off)
        for one, other in zip(grouped[0][:3], alone[0][:3]):
            self.assertAlmostEqual(one[0], other[0], delta=1e-5)
            self.assertAlmostEqual(one[1], other[1], delta=1e-4 * other[1])


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
