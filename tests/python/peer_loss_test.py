"""The same weights and tokens give the same losses in plain torch and in plait."""

import json
import os
import subprocess
import sys
import unittest

import command

sys.path.insert(0, str(command.ROOT / "bench/peer"))
import llama  # noqa: E402

CONFIG = {"vocab_size": 256, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4,
          "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "rope_theta": 10000.0}
OPTIMIZER = ["--set", "optimizer.lr=1e-2", "--set", "optimizer.warmup_steps=2", "--set", "optimizer.min_lr_share=0.1", "--set",
             "optimizer.clip_norm=0.5", "--set", "model.init=weights"]


class PeerLoss(command.CommandTest):
    def test_three_steps(self) -> None:
        llama.write_random_model(self.folder / "weights", CONFIG, 8, 3)
        job = (self.folder / "job.toml").read_text()
        (self.folder / "job.toml").write_text(job[job.index("[data]"):])  # the model is that of the folder
        run = subprocess.run(
            [sys.executable, str(command.ROOT / "bench/peer/torch_trainer.py"), "--schedule", "single", "--model", "weights", "--text",
             "text.txt", "--steps", "3", "--microbatches", "4", "--sequences", "1", "--length", "8", "--seed", "7", "--lr", "1e-2",
             "--warmup", "2", "--min-share", "0.1", "--clip", "0.5", "--validation-share", "0.2"],
            cwd=self.folder, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        torch_lines = [json.loads(line) for line in run.stdout.splitlines()]
        for arguments in (["--reference"], ["--schedule", "dualpipe-v", "--ranks", "2"], ["--schedule", "1f1b", "--ranks", "4"]):
            result = self.train(*OPTIMIZER, *arguments, "--overwrite")
            self.assertEqual(result.returncode, 0, result.stderr)
            lines = self.metrics_of("job")
            for ours, theirs in zip(lines[:3], torch_lines, strict=True):
                self.assertAlmostEqual(ours["loss"], theirs["loss"], delta=1e-5)
                self.assertAlmostEqual(ours["grad_norm"], theirs["grad_norm"], delta=1e-5)
        self.assertNotAlmostEqual(torch_lines[0]["loss"], torch_lines[2]["loss"], delta=1e-3)


if __name__ == "__main__":
    unittest.main()
