"""Steps in which a number is not finite: named, and skipped on all ranks alike."""

import unittest

import command
import numpy
from safetensors.numpy import load_file, save_file

RARE = ord("~")  # of no batch but some
CALM = ["--set", "optimizer.warmup_steps=0", "--steps", "12"]


class NotFinite(command.CommandTest):
    def setUp(self) -> None:
        """A model whose embedding of one rare byte is not a number: steps whose batch holds it fail, others do not."""
        super().setUp()
        text = bytearray(byte for byte in command.TEXT if byte != RARE)
        for place in range(0, 3000, 331):
            text[place] = RARE
        (self.folder / "text.txt").write_bytes(text)
        done = self.train("--steps", "1", "--set", "run.folder=runs/init", "--set", "optimizer.lr=1e-9")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.poison("model.embed_tokens.weight", RARE)

    def poison(self, name: str, row: int) -> None:
        path = self.folder / "runs/init/model/model.safetensors"
        tensors = {key: tensor.copy() for key, tensor in load_file(path).items()}
        tensors[name][row] = numpy.nan
        save_file(tensors, path, metadata={"format": "pt"})

    def trained(self, name: str, *arguments: str, code: int = 0) -> str:
        done = self.train("--set", "model.init=runs/init/model", "--set", f"run.folder=runs/{name}", "--set", "data.validation_share=0.0",
                          *CALM, *arguments)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def steps(self, name: str) -> list[tuple]:
        return [(line["step"], line["loss"], line["grad_norm"], line["skipped"]) for line in self.metrics_of(name)]

    def model(self, name: str) -> bytes:
        return (self.folder / "runs" / name / "model/model.safetensors").read_bytes()

    def test_a_skipped_step_is_skipped_alike_everywhere(self) -> None:
        skip = ["--set", "run.on_not_finite=skip"]
        output = self.trained("one", *skip)
        steps = self.steps("one")
        skipped = [step for step, _, _, was in steps if was]
        self.assertTrue(0 < len(skipped) < 12, steps)
        self.assertRegex(output, rf"step {skipped[0]} was skipped: tensor 0 of its output is nan at micro-batch \d, stage 0")
        for step, loss, norm, was in steps:
            self.assertEqual(was == 1, loss is None or norm is None, step)
        # A model in which every step is skipped stays the one that it began with, but for the poisoned row.
        ways = {"reference": ["--reference"], "deeper": ["--schedule", "1f1b", "--ranks", "4"], "gloo": ["--comm", "gloo"]}
        for name, way in ways.items():
            self.trained(name, *skip, *way)
            self.assertEqual(self.steps(name), steps, name)
            self.assertTrue(self.model(name) == self.model("one"), name)

    def test_replicas_skip_together(self) -> None:
        skip = ["--set", "run.on_not_finite=skip", "--set", "parallel.data=2", "--set", "run.batch_size=8"]
        self.trained("reference", *skip, "--reference")
        steps = self.steps("reference")
        self.assertTrue(0 < sum(was for _, _, _, was in steps) < 12, steps)
        for shard in ("none", "parameters"):
            self.trained(shard, *skip, "--set", f"parallel.shard={shard}")
            self.assertEqual(self.steps(shard), steps, shard)
            self.assertTrue(self.model(shard) == self.model("reference"), shard)

    def test_a_step_that_is_skipped_changes_nothing(self) -> None:
        self.poison("model.norm.weight", 0)  # now every step fails
        self.trained("run", "--set", "run.on_not_finite=skip", "--set", "checkpoint.every=12")
        self.assertEqual([was for _, _, _, was in self.steps("run")], [1] * 12)
        before, after = (load_file(self.folder / "runs" / name / "model/model.safetensors") for name in ("init", "run"))
        for name, tensor in before.items():
            self.assertEqual(tensor.tobytes(), after[name].tobytes(), name)
        state = {}
        for path in (self.folder / "runs/run/checkpoints/step-12").glob("rank-*.safetensors"):
            state |= load_file(path)
        self.assertEqual((state["trainer.step"], state["optimizer.steps"]), (12, 0))
        for key, tensor in state.items():
            if key.startswith("optimizer.") and "/" in key:
                self.assertFalse(tensor.any(), key)

    def test_what_made_it_is_named(self) -> None:
        words = self.trained("stop", code=1)
        self.assertRegex(words, r"plait train: error: step \d+: tensor 0 of its output is nan at micro-batch \d, stage 0")
        words = self.trained("check", "--check-finite", code=1)
        self.assertRegex(words, r"step \d+: tensor 0 of the output of segment embed\S* is nan at micro-batch \d, stage 0")


if __name__ == "__main__":
    unittest.main()
