"""plait top and plait train --watch: a run seen from outside and from inside, and what is no run."""

import fcntl
import json
import os
import pathlib
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
import unittest

import command

ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"


class Terminal:
    """A program on a terminal of 80 columns and 24 rows, or others."""

    def __init__(self, arguments: list[str], folder: pathlib.Path, columns: int = 80, rows: int = 24) -> None:
        self.pid, self.file = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.chdir(folder)
            os.execv(arguments[0], arguments)
        self.text = ""
        self.exit_code: int | None = None
        self.settings: list = []

    def read(self) -> bool:
        """What comes within a moment; False if nothing can come any more."""
        if not select.select([self.file], [], [], 0.05)[0]:
            return True
        try:
            piece = os.read(self.file, 1 << 16)
        except OSError:
            piece = b""
        self.text += piece.decode(errors="replace")
        return bool(piece)

    def wait_for(self, words: str) -> bool:
        """The words, behind what was read before."""
        begin = len(self.text)
        for _ in range(1200):
            if words in self.text[begin:]:
                return True
            if not self.read():
                break
        return words in self.text[begin:]

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.file, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def press(self, key: str) -> None:
        os.write(self.file, key.encode())

    def end(self) -> int:
        while self.read():
            pass
        if self.exit_code is None:
            self.exit_code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            self.settings = termios.tcgetattr(self.file)
            os.close(self.file)
        return self.exit_code

    def kill(self) -> None:
        if self.exit_code is None:
            os.kill(self.pid, signal.SIGKILL)
            self.end()

    def last_frame(self) -> list[str]:
        """The rows of the last whole screen, without colours."""
        rows = re.split(r"\x1b\[(\d+);1H\x1b\[[KJ]", self.text)
        frames: list[list[str]] = []
        for number, row in zip(rows[1::2], rows[2::2], strict=True):
            if number == "1":
                frames.append([])
            if frames:
                frames[-1].append(re.sub(r"\x1b\[[?\d;]*[a-zA-Z]", "", row).rstrip())
        return frames[-2]


class Watch(command.CommandTest):
    def start(self, *arguments: str) -> subprocess.Popen:
        """A run that lasts, when it has taken its second step."""
        process = subprocess.Popen([command.PLAIT, "train", "job.toml", "--steps", "1000000", *arguments], cwd=self.folder,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        for _ in range(1200):
            if self.steps() > 1:
                return process
            if process.poll() is not None:
                break
            time.sleep(0.05)
        self.fail("the run did not start")

    def steps(self) -> int:
        metrics = self.folder / "runs/job/metrics.jsonl"
        return metrics.read_text().count("\n") - 1 if metrics.exists() else 0

    def terminal(self, *arguments: str, **size: int) -> Terminal:
        try:
            terminal = Terminal([command.PLAIT, *arguments], self.folder, **size)
        except OSError as error:  # a container without /dev/pts
            self.skipTest(f"no terminal can be opened here: {error}")
        self.addCleanup(terminal.kill)
        return terminal

    def wait_for_step_after(self, step: int) -> None:
        for _ in range(1200):
            if self.steps() > step:
                return
            time.sleep(0.05)
        self.fail(f"no step came after {step}")

    def top(self, *arguments: str) -> str:
        result = self.plait("top", *arguments)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        return result.stdout

    def error_of(self, *arguments: str) -> str:
        result = self.plait("top", *arguments)
        self.assertEqual((result.returncode, result.stdout), (2, ""))
        return result.stderr

    def test_once_during_and_after(self) -> None:
        process = self.start("--set", "run.validate_every=2")
        self.wait_for_step_after(3)
        for text in (self.top("runs/job", "--once"), self.top("runs/job")):  # stdout is a pipe
            self.assertNotIn("\x1b", text)
            self.assertRegex(text, r"^runs/job  step \d+/1000000  loss \d")
            self.assertRegex(text, r"\nloss \d.* o validation \d")
            self.assertRegex(text, r"\nrank  bubble +fill  steady +drain +exposed +peak MB")
            self.assertRegex(text, r"\n   1 +[\d.]+ %")
            self.assertRegex(text, r"\nlanes of step \d+\nrank 0 .*[fF].*\n")
        self.assertTrue(all(len(line) <= 60 for line in self.top("runs/job", "--once", "--width", "60").splitlines()))
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(timeout=60), 130)
        text = self.top("runs/job", "--once")
        step = self.steps_of_metrics()[-1]
        self.assertIn(f"\nstopped after step {step}, the model is in runs/job/model\n", text)
        self.assertIn(f"\nlanes of step {step}\n", text)  # the last one is always there

        self.assertEqual(self.train("--overwrite").returncode, 0)
        text = self.top("runs/job")
        self.assertIn("\nended after step 3, the model is in runs/job/model\n", text)
        self.assertIn("\nlanes of step 3\n", text)

    def steps_of_metrics(self) -> list[int]:
        lines = (self.folder / "runs/job/metrics.jsonl").read_text().splitlines()[1:]
        return [json.loads(line)["step"] for line in lines if '"loss"' in line]

    def test_the_reference_is_seen_without_lanes(self) -> None:
        self.assertEqual(self.train("--reference").returncode, 0)
        text = self.top("runs/job")
        self.assertRegex(text, r"\n   0 +- +- ")
        self.assertNotIn("lanes", text)

    def test_who_watches_from_outside_ends_alone(self) -> None:
        process = self.start()
        before = {path: path.stat().st_ino for path in (self.folder / "runs/job").iterdir() if path.name != "last_step.json"}
        for key, code in (("\x03", 130), ("q", 0)):
            with self.subTest(key=key):
                terminal = self.terminal("top", "runs/job")
                settings = termios.tcgetattr(terminal.file)
                self.assertTrue(terminal.wait_for("q ends the view, the run goes on"), terminal.text)
                self.assertNotEqual(termios.tcgetattr(terminal.file), settings)
                terminal.wait_for("q ends the view")
                frame = terminal.last_frame()
                self.assertEqual(len(frame), 24)
                self.assertTrue(all(len(row) <= 80 for row in frame))
                self.assertRegex(frame[0], r"^runs/job  step \d+/1000000")
                terminal.resize(100, 30)
                terminal.wait_for("\x1b[30;1H")
                terminal.press(key)
                self.assertTrue(terminal.wait_for(LEAVE))
                self.assertEqual(terminal.end(), code)
                self.assertEqual(terminal.settings, settings)
                self.assertEqual(terminal.text.count(ENTER), 1)
                self.assertTrue(terminal.text.endswith(LEAVE))
                self.assertIsNone(process.poll())
                self.wait_for_step_after(self.steps())
        self.assertEqual(before, {path: path.stat().st_ino for path in before})

    def test_an_error_gives_the_terminal_back(self) -> None:
        self.start()
        terminal = self.terminal("top", "runs/job")
        self.assertTrue(terminal.wait_for("q ends the view"), terminal.text)
        (self.folder / "runs/job/job.toml").unlink()
        self.assertTrue(terminal.wait_for("is not the folder of a run (no job.toml)"))
        self.assertEqual(terminal.end(), 2)
        self.assertLess(terminal.text.index(LEAVE), terminal.text.index("is not the folder"))

    def test_watching_from_inside(self) -> None:
        for comm in ("inproc", "gloo"):
            with self.subTest(comm=comm):
                terminal = self.terminal("train", "job.toml", "--watch", "--overwrite", "--steps", "1000000", "--comm", comm)
                self.assertTrue(terminal.wait_for("lanes of step"), terminal.text)
                self.assertTrue(terminal.wait_for("Ctrl-C ends the run after its step"))
                self.assertLess(terminal.text.index("proven: dualpipe-v"), terminal.text.index(ENTER))
                terminal.press("\x03")
                self.assertEqual(terminal.end(), 130)
                self.assertEqual(terminal.text.count(ENTER), 1)
                behind = terminal.text[terminal.text.index(LEAVE):]
                self.assertRegex(behind, r"step \d+/1000000  loss")
                self.assertIn("model written to runs/job/model", behind)
                self.assertRegex(behind, r"after step \d+")

    def test_a_run_that_is_watched_to_its_end_prints_its_end(self) -> None:
        terminal = self.terminal("train", "job.toml", "--watch", columns=200)
        self.assertEqual(terminal.end(), 0)
        behind = terminal.text[terminal.text.rfind(LEAVE) + 1:]
        self.assertRegex(behind, r"step 3/3  loss(.|\n)*validation loss(.|\n)*held-out bits per byte(.|\n)*model written")

    def test_the_second_signal_gives_the_terminal_back(self) -> None:
        terminal = self.terminal("train", "job.toml", "--watch", "--steps", "1000000", "--comm", "gloo")
        self.assertTrue(terminal.wait_for("lanes of step"), terminal.text)
        for rank in pathlib.Path(f"/proc/{terminal.pid}/task/{terminal.pid}/children").read_text().split():
            os.kill(int(rank), signal.SIGSTOP)  # no step ends any more
        going = True
        while going:  # two that come at one time are one
            terminal.press("\x03")
            going = all(terminal.read() for _ in range(20))
        self.assertEqual(terminal.end(), 130)
        self.assertIn(LEAVE, terminal.text)

    def test_without_a_terminal_lines_follow(self) -> None:
        result = self.train("--watch")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("stdout is no terminal to --watch the run in: plain lines follow\n", result.stdout)
        self.assertIn("step 3/3  loss", result.stdout)
        self.assertNotIn("\x1b", result.stdout)

    def test_what_is_no_run_is_an_error(self) -> None:
        self.assertIn("missing: is not a folder, needed the folder of a run", self.error_of("missing"))
        self.assertIn("text.txt: is not a folder, needed the folder of a run", self.error_of("text.txt"))
        (self.folder / "empty").mkdir()
        self.assertIn("empty: is not the folder of a run (no job.toml)", self.error_of("empty"))
        os.utime(self.folder / "job.toml", (1, 1))
        self.assertIn(".: is not the folder of a run (no metrics.jsonl)", self.error_of("."))
        self.assertEqual(self.plait("top").returncode, 2)

        self.assertEqual(self.train().returncode, 0)
        run = self.folder / "runs/job"
        whole = (run / "metrics.jsonl").read_bytes()
        lines = whole.splitlines(keepends=True)
        self.assertEqual(len(lines), 5)  # a header, three steps, a validation
        # A line that is being written is not there yet.
        (run / "metrics.jsonl").write_bytes(b"".join(lines[:3]) + lines[3][:40])
        self.assertIn("step 2/3", self.top("runs/job"))
        (run / "metrics.jsonl").write_bytes(lines[0][:10])
        self.assertIn("no step has ended yet", self.top("runs/job"))
        for text, message in ((b"\x7fELF\n", "metrics.jsonl:1: is not a run's metrics"),
                              (b'{"format":"plait metrics","version":7}\n', "metrics.jsonl:1: the metrics' version is 7, this program reads 1"),
                              (lines[0] + lines[1][:50] + b"\n", "metrics.jsonl:2: is not a JSON object"),
                              (lines[0] + lines[1].replace(b'"loss":', b'"lost":'), "metrics.jsonl:2: loss is missing"),
                              (lines[0] + re.sub(rb'"loss":[^,]*', b'"loss":null', lines[1]), "metrics.jsonl:2: loss is null"),
                              (lines[0] + lines[2] + lines[1], "metrics.jsonl:3: step 1 follows step 2")):
            (run / "metrics.jsonl").write_bytes(text)
            self.assertIn(message, self.error_of("runs/job"))
        (run / "metrics.jsonl").write_bytes(whole)
        step = (run / "last_step.json").read_text()
        for text, message in ((step[:1000], "last_step.json:"), ("[]", "last_step.json: found an array, needed a timeline of plait"),
                              (step.replace('"version": 1', '"version": 9'), "the timeline's version is 9")):
            (run / "last_step.json").write_text(text)
            self.assertIn(message, self.error_of("runs/job"))
        (run / "last_step.json").unlink()
        self.assertNotIn("lanes", self.top("runs/job"))
        (run / "job.toml").write_text("[run]\nstep = 3\n")
        self.assertIn("job.toml:2", self.error_of("runs/job"))


if __name__ == "__main__":
    unittest.main()
