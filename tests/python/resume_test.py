"""Runs that are killed, stopped or moved, and go on from a checkpoint with the same bits."""

import json
import os
import pathlib
import random
import re
import signal
import subprocess
import time
import unittest

import command
import running
from safetensors import safe_open

STEPS = 60
CHECKPOINTS = ["--set", "checkpoint.every=5", "--steps", str(STEPS)]


class Checkpoints(command.CommandTest):
    def run_of(self, folder: str) -> pathlib.Path:
        return self.folder / "runs" / folder

    def metrics(self, folder: str) -> list[tuple]:
        """What of each line does not depend on time, ranks or schedule, in order."""
        return [tuple(line.get(key) for key in ("step", "loss", "grad_norm", "learning_rate", "validation_loss")) for line in self.metrics_of(folder)]

    def model(self, folder: str) -> bytes:
        return (self.run_of(folder) / "model/model.safetensors").read_bytes()

    def train_in(self, folder: str, *arguments: str) -> subprocess.CompletedProcess:
        return self.train("--set", f"run.folder=runs/{folder}", *arguments)

    def trained(self, folder: str, *arguments: str) -> subprocess.CompletedProcess:
        done = self.train_in(folder, *arguments)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done

    def steps(self, folder: str) -> list[int]:
        return sorted(int(path.name.removeprefix("step-")) for path in (self.run_of(folder) / "checkpoints").glob("step-*"))

    def kill(self, folder: str, *arguments: str) -> None:
        """Starts a run and kills all of its processes at once, some time after its first checkpoint."""
        process = self.start(folder, *arguments)
        deadline = time.monotonic() + 60
        while not self.steps(folder) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        running.kill_all(process)
        self.assertTrue(self.steps(folder))

    def start(self, folder: str, *arguments: str) -> subprocess.Popen | running.Served:
        process = running.start("train", "job.toml", "--set", f"run.folder=runs/{folder}", *arguments, folder=self.folder)
        self.addCleanup(running.kill_all, process)
        return process

    def assert_same_run(self, folder: str, whole: str) -> None:
        self.assertEqual(self.metrics(folder), self.metrics(whole))
        self.assertEqual(self.model(folder), self.model(whole))

    def test_a_killed_run_goes_on_as_if_nothing_had_happened(self) -> None:
        validates = ["--set", "run.validate_every=20"]
        self.trained("whole", *CHECKPOINTS, *validates)
        for comm, other in (("inproc", "gloo"), ("gloo", "inproc")):
            with self.subTest(first=comm, then=other):
                folder = f"{comm}-{other}"
                self.kill(folder, *CHECKPOINTS, *validates, "--comm", comm)
                done = self.trained(folder, *CHECKPOINTS, *validates, "--comm", other, "--resume", "--schedule", "1f1b", "--ranks", "4")
                self.assertRegex(done.stdout, r'note: goes on from step \d+, runs/.*step-\d+\n')
                self.assertIn('note: parallel.schedule is "1f1b", was "dualpipe-v"\n', done.stdout)
                self.assert_same_run(folder, "whole")
                self.assertEqual(self.steps(folder), [STEPS - 5, STEPS])
                self.assertEqual(list((self.run_of(folder) / "checkpoints").glob(".step-*")), [])

    def test_killed_at_any_moment_nothing_is_lost(self) -> None:
        draw = random.Random(15)
        kills = 200 if command.NIGHTLY else int(os.environ.get("PLAIT_KILLS", "4"))  # CI: 20
        steps = str(20 * kills)
        # One checkpoint after the other: most kills come while one is written.
        chosen = ["--set", "checkpoint.every=1", "--steps", steps]
        self.trained("whole", *chosen)
        for _ in range(kills):
            goes_on = ["--resume"] if self.steps("run") else ["--overwrite"]
            schedule, ranks = draw.choice([("dualpipe-v", "2"), ("1f1b", "3"), ("zbv", "4"), ("gpipe", "1")])
            # Ranks that are processes start slowly: few of them where time is short.
            comm = draw.choice(["inproc"] * (1 if command.NIGHTLY else 9) + ["gloo"])
            process = self.start("run", *chosen, *goes_on, "--schedule", schedule, "--ranks", ranks, "--comm", comm)
            time.sleep(draw.uniform(0.05, 0.4) if isinstance(process, running.Served) else draw.uniform(0.4, 2.0))
            alive = process.poll() is None
            errors = running.kill_all(process)
            self.assertTrue(alive or process.returncode == 0, errors)
        self.trained("run", *chosen, "--resume" if self.steps("run") else "--overwrite")
        self.assert_same_run("run", "whole")

    def test_a_run_that_was_stopped_goes_on_in_another_folder(self) -> None:
        self.trained("whole", *CHECKPOINTS)
        process = self.start("stopped", *CHECKPOINTS)
        while not self.steps("stopped") and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        stopped = re.search(r"after step (\d+); .*--resume goes on from there", errors)
        self.assertIsNotNone(stopped, errors)
        self.assertEqual(self.steps("stopped")[-1], int(stopped[1]))
        self.trained("moved", *CHECKPOINTS, "--resume-from", "runs/stopped", "--comm", "gloo")
        self.assert_same_run("moved", "whole")

    def test_python_opens_what_a_checkpoint_holds(self) -> None:
        self.trained("run", "--set", "checkpoint.every=1")
        folder = self.run_of("run") / "checkpoints/step-3"
        manifest = json.loads((folder / "manifest.json").read_text())
        self.assertEqual(sorted(path.name for path in folder.iterdir()), sorted([*manifest["files"], "manifest.json"]))
        state = {}
        for name, seal in manifest["files"].items():
            self.assertEqual((folder / name).stat().st_size, seal["bytes"])
            if name.endswith(".safetensors"):
                with safe_open(folder / name, framework="numpy") as tensors:
                    for key in tensors.keys():
                        self.assertNotIn(key, state)
                        state[key] = tensors.get_tensor(key)
        with safe_open(self.run_of("run") / "model/model.safetensors", framework="numpy") as model:
            for name in model.keys():
                self.assertTrue((state[f"parameter/{name}"] == model.get_tensor(name)).all(), name)
                self.assertEqual(state[f"optimizer.first/{name}"].shape, state[f"optimizer.second/{name}"].shape)
        self.assertEqual((state["trainer.step"], state["optimizer.steps"], state["sampler.seed"]), (3, 3, 7))

    def refused(self, *arguments: str, folder: str = "run") -> str:
        done = self.train_in(folder, *arguments)
        self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
        return done.stderr

    def test_what_cannot_go_on_says_why(self) -> None:
        self.assertIn("runs/run: is not there, needed the folder of the run that is to go on", self.refused("--resume"))
        self.trained("run")
        self.assertIn("runs/run: holds no checkpoint to resume from", self.refused("--resume"))
        self.trained("run", "--overwrite", "--set", "checkpoint.every=2")
        self.assertIn("--overwrite: does not apply", self.refused("--resume", "--overwrite"))
        self.assertIn("lies in the run's own folder", self.refused("--resume-from", "runs/run/checkpoints/step-2", "--overwrite"))
        self.assertIn("--resume-from", self.refused("--resume", "--resume-from", "runs/run"))
        self.assertIn("is of step 3, the run ends at step 2", self.refused("--resume", "--steps", "2"))
        job = (self.folder / "job.toml").read_text()
        (self.folder / "job.toml").write_text(job.replace("seed = 7", "seed = 8") + "\n[optimizer]\nlr = 0.5\n")
        errors = self.refused("--resume")
        self.assertIn("\n  optimizer.lr is 0.5, was 0.003", errors)
        self.assertIn("\n  run.seed is 8, was 7", errors)
        self.trained("run", "--resume", "--set", "optimizer.lr=0.5", "--set", "run.seed=8", "--steps", "4", "--set", "checkpoint.every=2")
        self.assertEqual([line[0] for line in self.metrics("run")], [1, 2, 3, 4, 4])

    def test_a_damaged_checkpoint_is_named_and_passed_over(self) -> None:
        self.trained("whole", "--steps", "6")
        self.trained("run", "--steps", "6", "--set", "checkpoint.every=2")
        damaged = self.run_of("run") / "checkpoints/step-6/rank-1.safetensors"
        numbers = bytearray(damaged.read_bytes())
        numbers[-1] ^= 1
        damaged.write_bytes(numbers)
        done = self.trained("run", "--steps", "6", "--set", "checkpoint.every=2", "--resume")
        self.assertIn("note: goes on from step 4", done.stdout)
        self.assertRegex(done.stdout, "note: a newer checkpoint was passed over: .*step-6/rank-1.safetensors: is damaged")
        self.assert_same_run("run", "whole")
        self.assertEqual(self.steps("run"), [4, 6])


if __name__ == "__main__":
    unittest.main()
