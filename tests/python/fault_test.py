"""Checkpoints on disks that are damaged, full or not writable: none that is not whole is taken for one, and every message names its file."""

import contextlib
import json
import os
import pathlib
import resource
import shutil
import subprocess
import unittest
from collections.abc import Callable, Iterator

import command

STEPS = ["--steps", "6", "--set", "checkpoint.every=2", "--set", "checkpoint.keep_last=9"]


def changed(path: pathlib.Path, change: Callable[[bytearray], bytearray | None]) -> None:
    numbers = bytearray(path.read_bytes())
    path.write_bytes(change(numbers) or numbers)


def flip(numbers: bytearray) -> None:
    numbers[len(numbers) // 2] ^= 4


def edit_manifest(path: pathlib.Path, **keys: object) -> None:
    manifest = json.loads(path.read_text())
    manifest.update(keys)
    path.write_text(json.dumps(manifest))


def file_elsewhere(name: str) -> Callable[[pathlib.Path], None]:
    """A manifest that names a file outside of its folder, with the right size and hash."""
    def edit(path: pathlib.Path) -> None:
        manifest = json.loads(path.read_text())
        manifest["files"][name] = manifest["files"]["job.toml"]
        path.write_text(json.dumps(manifest))
    return edit


# Of the newest checkpoint: which file, what becomes of it, and what is said.
DAMAGES: dict[str, tuple[str, Callable[[pathlib.Path], object], str]] = {
    "truncated": ("rank-1.safetensors", lambda path: os.truncate(path, path.stat().st_size - 100), r"has \d+ bytes, the manifest says \d+"),
    "emptied": ("rank-0.safetensors", lambda path: os.truncate(path, 0), "has 0 bytes"),
    "a bit flipped": ("rank-0.safetensors", lambda path: changed(path, flip), "is damaged: its XXH3-128 is"),
    "missing": ("rank-1.safetensors", pathlib.Path.unlink, "is missing"),
    "longer": ("rank-0.safetensors", lambda path: changed(path, lambda numbers: numbers + b"x"), r"has \d+ bytes, the manifest says"),
    "another's job": ("job.toml", lambda path: path.write_text(path.read_text().replace("seed = 7", "seed = 8")), "is damaged"),
    "torn manifest": ("manifest.json", lambda path: os.truncate(path, path.stat().st_size // 2), "is no JSON object: it is torn"),
    "no manifest": ("manifest.json", pathlib.Path.unlink, "the manifest file cannot be read: No such file"),
    "another step": ("manifest.json", lambda path: edit_manifest(path, step=4), "says step 4, its folder step 6"),
    "more ranks": ("manifest.json", lambda path: edit_manifest(path, ranks=3), r"names no rank-2.safetensors, needed one of each of 3 ranks"),
    "another version": ("manifest.json", lambda path: edit_manifest(path, version=2), "version 2, needed"),
    "a file above": ("manifest.json", file_elsewhere("../../job.toml"), "is no file of a checkpoint"),
    "a file anywhere": ("manifest.json", file_elsewhere("/etc/hostname"), "is no file of a checkpoint"),
}


class Faults(command.CommandTest):
    def trained(self, folder: str, *arguments: str) -> subprocess.CompletedProcess:
        done = self.train("--set", f"run.folder=runs/{folder}", *STEPS, *arguments)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done

    def result(self, folder: str) -> tuple[bytes, list[tuple]]:
        return ((self.folder / "runs" / folder / "model/model.safetensors").read_bytes(),
                [tuple(line.get(key) for key in ("step", "loss", "grad_norm", "validation_loss")) for line in self.metrics_of(folder)])

    def steps(self, folder: str) -> list[str]:
        return sorted(path.name for path in (self.folder / "runs" / folder / "checkpoints").iterdir())

    def test_damage_is_named_and_passed_over(self) -> None:
        self.trained("whole")
        for name, (file, damage, words) in DAMAGES.items():
            with self.subTest(damage=name):
                shutil.rmtree(self.folder / "runs/run", ignore_errors=True)
                shutil.copytree(self.folder / "runs/whole", self.folder / "runs/run")
                damage(self.folder / "runs/run/checkpoints/step-6" / file)
                done = self.trained("run", "--resume")
                self.assertRegex(done.stdout, rf"note: a newer checkpoint was passed over: runs/run/checkpoints/step-6/?\S*: .*{words}")
                self.assertIn("note: goes on from step 4, runs/run/checkpoints/step-4\n", done.stdout)
                self.assertEqual(self.result("run"), self.result("whole"))
                self.assertEqual(self.steps("run"), ["step-2", "step-4", "step-6"])

    def test_where_each_is_damaged_all_are_named(self) -> None:
        self.trained("run")
        for step in (2, 4, 6):
            changed(self.folder / f"runs/run/checkpoints/step-{step}/rank-0.safetensors", flip)
        done = self.train("--set", "run.folder=runs/run", *STEPS, "--resume")
        self.assertEqual(done.returncode, 2, done.stdout)
        for step in (2, 4, 6):
            self.assertRegex(done.stderr, rf"\n  runs/run/checkpoints/step-{step}/rank-0.safetensors: is damaged")

    def test_what_a_killed_save_leaves_is_never_read(self) -> None:
        """Every phase of a save, as a kill behind it leaves the folder: the newest whole checkpoint is taken, and the rest goes."""
        self.trained("whole")
        newest = self.folder / "runs/whole/checkpoints/step-6"
        files = ["rank-0.safetensors", "rank-1.safetensors", "job.toml", "manifest.json"]
        for written in range(len(files) + 1):
            with self.subTest(written=files[:written]):
                shutil.rmtree(self.folder / "runs/run", ignore_errors=True)
                shutil.copytree(self.folder / "runs/whole", self.folder / "runs/run")
                shutil.rmtree(self.folder / "runs/run/checkpoints/step-6")
                unfinished = self.folder / "runs/run/checkpoints/.step-6.4711-1"
                unfinished.mkdir()
                for file in files[:written]:
                    shutil.copy(newest / file, unfinished / file)
                if 0 < written:  # the last one's name comes after its bytes
                    (unfinished / f"{files[written - 1]}.4711.tmp").write_bytes(b"half")
                done = self.trained("run", "--resume")
                self.assertIn("note: goes on from step 4", done.stdout)
                self.assertEqual(self.result("run"), self.result("whole"))
                self.assertEqual(self.steps("run"), ["step-2", "step-4", "step-6"])

    @contextlib.contextmanager
    def small_disk(self, size: str) -> Iterator[pathlib.Path]:
        folder = self.folder / "disk"
        folder.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], capture_output=True, check=False)
        if mounted.returncode != 0:
            self.skipTest("needs the right to mount a small disk")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)

    def test_a_full_disk_keeps_the_checkpoints_that_are_whole(self) -> None:
        self.trained("whole")
        bytes_of_one = sum(path.stat().st_size for path in (self.folder / "runs/whole/checkpoints/step-2").iterdir())
        model = (self.folder / "runs/whole/model/model.safetensors").stat().st_size
        room = bytes_of_one * 2 + model * 2  # for a checkpoint and the model, not for three
        with self.small_disk(f"{(room + 4095) // 4096 * 4}k") as disk:
            done = self.train("--set", f"run.folder={disk}/run", *STEPS)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertRegex(done.stderr, r"plait train: warning: .*checkpoints/.*: .*(No space left|no room).*; the run goes on")
            left = [path.name for path in (disk / "run/checkpoints").iterdir()]
            self.assertTrue(left and all(name.startswith("step-") for name in left), left)
            whole = self.folder / "runs/whole"
            self.assertTrue((disk / "run/model/model.safetensors").read_bytes() == (whole / "model/model.safetensors").read_bytes())
            self.trained("again", "--resume-from", str(disk / "run"))
            self.assertEqual(self.result("again"), self.result("whole"))

    def test_a_disk_that_cannot_be_written_ends_before_the_first_step(self) -> None:
        with self.small_disk("8m") as disk:
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            done = self.train("--set", f"run.folder={disk}/run", *STEPS)
            self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
            self.assertIn("the run folder cannot be written", done.stderr)

    def test_files_that_may_not_grow_end_no_run(self) -> None:
        """As a full disk, without the right to mount: a limit between the size of the model and of a checkpoint."""
        self.trained("whole", "--schedule", "gpipe", "--ranks", "1")
        checkpoint = (self.folder / "runs/whole/checkpoints/step-2/rank-0.safetensors").stat().st_size
        model = (self.folder / "runs/whole/model/model.safetensors").stat().st_size
        self.assertGreater(checkpoint, 2 * model)
        limit = (checkpoint + model) // 2
        done = subprocess.run([command.PLAIT, "train", "job.toml", "--set", "run.folder=runs/run", *STEPS, "--schedule", "gpipe", "--ranks", "1"],
                              cwd=self.folder, capture_output=True, text=True, timeout=120, check=False,
                              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stderr, r"plait train: warning: runs/run/checkpoints/.*rank-0.safetensors: .*File too large; the run goes on")
        self.assertEqual(self.steps("run"), [])
        self.assertEqual(self.result("run"), self.result("whole"))


if __name__ == "__main__":
    unittest.main()
