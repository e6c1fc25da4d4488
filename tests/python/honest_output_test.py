"""What a command could not write it says, and an output path is never replaced by something else."""

import contextlib
import json
import os
import pathlib
import re
import stat
import subprocess
import threading
import unittest
from collections.abc import Iterator

import command

SHAPE = ("--ranks", "8", "--microbatches", "64")
COMMANDS = (("make", "1f1b", *SHAPE), ("make", "1f1b", *SHAPE, "--format", "json"), ("show", "1f1b", *SHAPE),
            ("opt", "1f1b", *SHAPE, "--passes", "split-backward"), ("check", "1f1b", *SHAPE), ("check", "1f1b", *SHAPE, "--json"),
            ("simulate", "1f1b", *SHAPE), ("simulate", "1f1b", *SHAPE, "--json"), ("simulate", "1f1b", *SHAPE, "--lanes"),
            ("compare", *SHAPE), ("list",), ("braid", "show"), ("completion", "bash"), ("--help",), ("--version",), ("make", "--help"))
FULL = "cannot write standard output: No space left on device"


class StandardOutput(command.CommandTest):
    def run_into(self, output: str, *arguments: str) -> subprocess.CompletedProcess:
        """With standard output redirected by the shell, as in run_into(">&-", "list")."""
        return subprocess.run(["bash", "-c", f'"$0" "$@" {output}', command.PLAIT, *arguments], cwd=self.folder,
                              stderr=subprocess.PIPE, text=True, check=False, timeout=120)

    def test_a_full_disk_is_an_error(self) -> None:
        for arguments in COMMANDS:
            with self.subTest(arguments):
                result = self.run_into("> /dev/full", *arguments)
                self.assertEqual(result.returncode, 1)
                self.assertEqual(result.stderr, f"plait: error: {FULL}\n")

    def test_a_closed_output_is_an_error(self) -> None:
        for arguments in COMMANDS:
            with self.subTest(arguments):
                result = self.run_into(">&-", *arguments)
                self.assertEqual(result.returncode, 1)
                self.assertIn("cannot write standard output: Bad file descriptor", result.stderr)

    def test_nothing_of_a_closed_output_ends_up_in_a_file(self) -> None:
        result = self.run_into(">&-", "simulate", "1f1b", *SHAPE, "--timeline", "timeline.json")
        self.assertEqual(result.returncode, 1)
        self.assertTrue((self.folder / "timeline.json").read_text().rstrip().endswith("}"))
        self.assertNotIn("makespan", (self.folder / "timeline.json").read_text())

    def test_a_closed_pipe_is_quiet(self) -> None:
        for ignored in ("", "trap '' PIPE; "):
            for arguments in (("make", "gpipe", "--ranks", "8", "--microbatches", "4000"), ("list",)):
                with self.subTest(arguments, ignored=ignored):
                    # A reader that goes away before anything was written.
                    script = f'{ignored}{{ "$0" "$@"; echo $? >code; }} | true'
                    result = subprocess.run(["bash", "-c", script, command.PLAIT, *arguments], cwd=self.folder,
                                            capture_output=True, text=True, check=False, timeout=60)
                    self.assertEqual(result.stderr, "")
                    self.assertIn((self.folder / "code").read_text(), ("0\n", "141\n"))

    def test_a_pipe_that_is_closed_in_the_middle(self) -> None:
        with subprocess.Popen([command.PLAIT, "make", "gpipe", "--ranks", "8", "--microbatches", "40000"], cwd=self.folder,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            self.assertTrue(process.stdout.read(10))
            process.stdout.close()
            self.assertEqual(process.stderr.read(), b"")
            self.assertEqual(process.wait(), -13)  # SIGPIPE

    def test_a_failure_keeps_its_own_code(self) -> None:
        (self.folder / "wrong.csv").write_text("0F0\n")
        result = self.run_into("> /dev/full", "check", "wrong.csv", "--stages", "2")
        self.assertEqual(result.returncode, 1)
        self.assertIn(FULL, result.stderr)
        result = self.run_into("> /dev/full", "make", "absent.csv")
        self.assertEqual(result.returncode, 2)

    @unittest.skipUnless(os.geteuid() == 0, "mounts a disk of 8 KB, needs root")
    def test_what_fits_on_a_disk_is_there_and_the_rest_is_an_error(self) -> None:
        with small_disk(self.folder / "disk", "8k") as disk:
            result = self.run_into("> disk/a.csv", "make", "gpipe", "--ranks", "8", "--microbatches", "400")
            self.assertEqual(result.returncode, 1)
            self.assertIn(FULL, result.stderr)
            self.assertEqual((disk / "a.csv").stat().st_size, 8192)


@contextlib.contextmanager
def small_disk(folder: pathlib.Path, size: str) -> Iterator[pathlib.Path]:
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        raise unittest.SkipTest(f"no disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


class RunFolders(command.CommandTest):
    @unittest.skipUnless(os.geteuid() == 0, "mounts a disk of 500 KB, needs root")
    def test_a_full_disk_ends_no_run_before_its_model_is_there(self) -> None:
        # 200 lines of metrics need 100 KB; room for the model and the gradients is kept from the first step on.
        small = ("--set", "model.hidden_size=4", "--set", "model.intermediate_size=4", "--set", "model.num_hidden_layers=4",
                 "--set", "run.steps=200", "--set", "run.log_every=200")
        with small_disk(self.folder / "disk", "112k") as disk:
            result = self.train(*small, "--set", "run.folder=disk/run", "--save-gradients")
            self.assertEqual(result.returncode, 1, result.stdout + result.stderr)
            self.assertEqual(result.stderr.count("warning: disk/run/metrics.jsonl: cannot be written: No space left on device; the run goes on"), 1,
                             result.stderr)
            self.assertRegex(result.stderr, r"error: disk/run/metrics.jsonl: [0-9]+ of its lines are missing: .*No space left on device")
            self.assertIn("step 200/200", result.stdout)
            metrics = (disk / "run/metrics.jsonl").read_text()
            self.assertTrue(metrics.endswith("}\n"))
            steps = [json.loads(line).get("step") for line in metrics.splitlines()[1:]]
            self.assertEqual(steps, list(range(1, len(steps) + 1)))
            model = (disk / "run/model/model.safetensors").read_bytes()
        self.assertEqual(self.train(*small).returncode, 0)
        self.assertTrue(model == (self.folder / "runs/job/model/model.safetensors").read_bytes())

    @unittest.skipUnless(os.geteuid() == 0, "mounts a disk of 16 KB, needs root")
    def test_a_disk_without_room_for_the_model_is_an_error_at_once(self) -> None:
        with small_disk(self.folder / "disk", "16k") as disk:
            result = self.train("--set", "run.folder=disk/run")
            self.assertEqual(result.returncode, 1, result.stdout + result.stderr)
            self.assertRegex(result.stderr, "error: disk/run: has no room for [0-9]+ bytes: No space left on device")
            self.assertEqual(list(disk.iterdir()), [])


class OutputPaths(command.CommandTest):
    """Every flag that names a file to write."""

    def writers(self, path: str) -> Iterator[tuple[str, ...]]:
        yield ("simulate", "1f1b", "--ranks", "2", "--microbatches", "4", "--timeline", path)
        yield ("simulate", "1f1b", "--ranks", "2", "--microbatches", "4", "--svg", path)
        yield ("view", "1f1b", "--ranks", "2", "--microbatches", "4", "--out", path)

    def written(self, arguments: tuple[str, ...]) -> None:
        result = self.plait(*arguments, timeout=20)
        self.assertEqual(result.returncode, 0, result.stderr)

    def test_a_link_stays_and_its_file_is_replaced(self) -> None:
        (self.folder / "elsewhere").mkdir()
        real = self.folder / "elsewhere/real"
        (self.folder / "link").symlink_to("elsewhere/real")
        for arguments in self.writers("link"):
            real.write_text("old")
            with self.subTest(arguments):
                self.written(arguments)
                self.assertTrue((self.folder / "link").is_symlink())
                self.assertNotIn("old", real.read_text()[:3])
                self.assertEqual([path.name for path in (self.folder / "elsewhere").iterdir()], ["real"])

    def test_a_fifo_is_written_through(self) -> None:
        fifo = self.folder / "fifo"
        os.mkfifo(fifo)
        for arguments in self.writers("fifo"):
            with self.subTest(arguments):
                got: list[str] = []
                reader = threading.Thread(target=lambda got=got: got.append(fifo.read_text()))
                reader.start()
                self.written(arguments)
                reader.join(timeout=20)
                self.assertGreater(len(got[0]), 100)
                self.assertTrue(fifo.is_fifo())

    @unittest.skipUnless(os.geteuid() == 0, "makes a device node, needs root")
    def test_a_device_is_written_through(self) -> None:
        device = self.folder / "null"
        try:
            os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
            device.write_text("")  # a container may make nodes and not open them
        except OSError as error:
            self.skipTest(f"no device can be made here: {error}")
        for arguments in self.writers("null"):
            with self.subTest(arguments):
                self.written(arguments)
                self.assertTrue(device.is_char_device())

    def test_standard_output_as_a_file(self) -> None:
        for arguments in self.writers("/dev/stdout"):
            with self.subTest(arguments):
                with (self.folder / "both").open("w") as both:
                    result = subprocess.run([command.PLAIT, *arguments], cwd=self.folder, stdout=both, check=False, timeout=20)
                self.assertEqual(result.returncode, 0)
                text = (self.folder / "both").read_text()
                self.assertRegex(text, re.compile(r"\A(\{|<).*(makespan|open it in a browser)", re.DOTALL))

    def test_a_full_device_is_an_error(self) -> None:
        for arguments in self.writers("/dev/full"):
            with self.subTest(arguments):
                result = self.plait(*arguments)
                self.assertEqual(result.returncode, 1)
                self.assertIn("/dev/full: cannot write: No space left on device", result.stderr)

    @unittest.skipUnless(os.geteuid() == 0, "mounts a disk of 8 KB, needs root")
    def test_a_failed_write_leaves_the_old_file(self) -> None:
        with small_disk(self.folder / "disk", "8k") as disk:
            for arguments in self.writers("disk/out"):
                (disk / "out").write_text("old")
                long = tuple("400" if argument == "4" else argument for argument in arguments)
                with self.subTest(long):
                    result = self.plait(*long)
                    self.assertEqual(result.returncode, 1, result.stdout)
                    self.assertIn("disk/out: cannot write: No space left on device", result.stderr)
                    self.assertEqual((disk / "out").read_text(), "old")
                    self.assertEqual([path.name for path in disk.iterdir()], ["out"])


class Colours(command.CommandTest):
    def escapes(self, **variables: str) -> bool:
        """Whether the command writes escape sequences to a terminal."""
        ours, its = os.openpty()
        environment = {**{k: v for k, v in os.environ.items() if k != "NO_COLOR"}, "TERM": "xterm-256color", **variables}
        with os.fdopen(ours, "rb") as terminal:
            with os.fdopen(its, "wb") as output:
                subprocess.run([command.PLAIT, "show", "1f1b", "--ranks", "2", "--microbatches", "4"], check=True,
                               stdin=subprocess.DEVNULL, stdout=output, env=environment, timeout=20)
            return b"\x1b[" in terminal.read1()

    def test_colours_only_where_they_are_wanted(self) -> None:
        try:
            for file in os.openpty():
                os.close(file)
        except OSError as error:
            self.skipTest(f"this machine gives no terminals: {error}")
        self.assertTrue(self.escapes())
        self.assertTrue(self.escapes(NO_COLOR=""))
        self.assertFalse(self.escapes(NO_COLOR="1"))
        self.assertFalse(self.escapes(TERM="dumb"))


if __name__ == "__main__":
    unittest.main()
