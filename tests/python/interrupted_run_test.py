"""Runs that end early: on request, by a rank's death, by a loss that is not finite. No process stays behind."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time
import unittest
from collections.abc import Callable

import command
import running


def children(pid: int) -> list[int]:
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(child) for child in task.read_text().split()]
    return found


def state(pid: int) -> str:
    """R, S, T, Z and so on; empty if there is no such process."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def alive(pid: int) -> bool:
    return state(pid) not in ("", "Z")


class InterruptedRun(command.CommandTest):
    def launch(self, *arguments: str, steps: str = "1000000", environment: dict[str, str] | None = None,
               before: Callable[[], object] | None = None) -> subprocess.Popen:
        """Starts a run that lasts long enough."""
        line = ["train", "job.toml", "--steps", steps, *arguments]
        if environment is None and before is None:
            process = running.start(*line, folder=self.folder)
        else:
            process = subprocess.Popen([command.PLAIT, *line], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                       start_new_session=True, env={**os.environ, **(environment or {})}, preexec_fn=before)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def start(self, *arguments: str, steps: str = "1000000", before: Callable[[], object] | None = None) -> subprocess.Popen:
        """As launch(), and returns when the run has taken its second step."""
        shutil.rmtree(self.folder / "runs", ignore_errors=True)
        process = self.launch(*arguments, steps=steps, before=before)
        metrics = self.folder / "runs/job/metrics.jsonl"
        for _ in range(1200):
            if metrics.exists() and metrics.read_text().count("\n") > 2:
                return process
            if process.poll() is not None:
                break
            time.sleep(0.05)
        process.kill()
        self.fail("the run did not start: " + "".join(process.communicate()))

    def steps_done(self) -> int:
        metrics = self.folder / "runs/job/metrics.jsonl"
        return metrics.read_text().count("\n") - 1 if metrics.exists() else 0

    def wait_until(self, condition: Callable[[], bool]) -> None:
        for _ in range(6000):
            if condition():
                return
            time.sleep(0.02)
        self.fail("it did not come")

    def catches(self, pid: int, number: int) -> bool:
        """True when the process has a handler for the signal: it is past its first moments."""
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return int(line.split()[1], 16) >> (number - 1) & 1 == 1
        return False

    def end(self, process: subprocess.Popen, ranks: list[int]) -> tuple[str, str]:
        output = process.communicate(timeout=60)
        self.assert_gone(ranks)
        return output

    def assert_gone(self, ranks: list[int]) -> None:
        for _ in range(400):
            if not any(alive(pid) for pid in ranks):
                return
            time.sleep(0.05)
        self.fail("ranks stayed behind")

    def test_first_signal_ends_after_the_step(self) -> None:
        for number, code, word in ((signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated"),
                                   (signal.SIGHUP, 129, "hung up")):
            for comm in ("inproc", "gloo"):
                with self.subTest(signal=number, comm=comm):
                    process = self.start("--comm", comm, "--overwrite")
                    ranks = children(process.pid)
                    process.send_signal(number)
                    output = "".join(self.end(process, ranks))
                    self.assertEqual(process.returncode, code, output)
                    self.assertIn(f"plait train: {word} after step", output)
                    self.assertTrue((self.folder / "runs/job/model/model.safetensors").exists())
                    lines = (self.folder / "runs/job/metrics.jsonl").read_text().splitlines()
                    for line in lines:
                        json.loads(line)  # none is cut short

    def test_a_hang_up_that_is_ignored_is_ignored(self) -> None:
        process = self.start("--comm", "gloo", before=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        ranks = children(process.pid)
        process.send_signal(signal.SIGHUP)
        steps = self.steps_done()
        self.wait_until(lambda: self.steps_done() > steps + 2)
        process.send_signal(signal.SIGTERM)
        self.end(process, ranks)
        self.assertEqual(process.returncode, 143)

    def test_in_set_up_a_signal_ends_at_once_and_leaves_nothing(self) -> None:
        for comm in ("inproc", "gloo"):
            for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
                with self.subTest(comm=comm, signal=number):
                    process = self.launch("--comm", comm, "--set", "run.start_timeout_s=600.0")
                    self.wait_until(lambda: self.catches(process.pid, number))
                    process.send_signal(number)
                    output = "".join(process.communicate(timeout=60))
                    # Where the run has begun already it ends after its step.
                    self.assertEqual(process.returncode, code, output)
                    if "after step" not in output:
                        self.assertFalse((self.folder / "runs").exists(), output)
                    shutil.rmtree(self.folder / "runs", ignore_errors=True)

    def test_in_the_rendezvous_a_signal_ends_at_once(self) -> None:
        # Rank 1 of two, and nobody else comes.
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = str(listener.getsockname()[1])
        for rank in ("0", "1"):
            for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
                with self.subTest(rank=rank, signal=number):
                    process = self.launch("--comm", "gloo", "--set", "run.start_timeout_s=600.0", environment={
                        "RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port})
                    self.wait_until(lambda: self.catches(process.pid, number))
                    process.send_signal(number)
                    output = "".join(process.communicate(timeout=60))
                    self.assertEqual(process.returncode, code, output)
                    self.assertFalse((self.folder / "runs").exists(), output)

    def test_a_signal_after_the_last_step_still_says_so(self) -> None:
        for comm in ("inproc", "gloo"):
            with self.subTest(comm=comm):
                process = self.start("--comm", comm, "--overwrite", "--set", "data.validation_share=0.9", steps="60")
                ranks = children(process.pid)
                self.wait_until(lambda: self.steps_done() >= 60 or process.poll() is not None)
                process.send_signal(signal.SIGINT)
                output = "".join(self.end(process, ranks))
                if process.returncode != 0:  # 0: it had ended before
                    self.assertEqual(process.returncode, 130, output)
                self.assertTrue((self.folder / "runs/job/model/model.safetensors").exists())

    def test_time_in_which_it_was_stopped_does_not_count(self) -> None:
        for comm in ("inproc", "gloo"):
            with self.subTest(comm=comm):
                process = self.start("--comm", comm, "--overwrite", "--set", "run.timeout_s=1.0")
                everyone = [process.pid, *children(process.pid)]
                for _ in range(2):
                    for pid in everyone:
                        os.kill(pid, signal.SIGSTOP)
                    time.sleep(1.3)
                    for pid in everyone:
                        os.kill(pid, signal.SIGCONT)
                    steps = self.steps_done()
                    self.wait_until(lambda: self.steps_done() > steps + 2 or process.poll() is not None)
                    self.assertIsNone(process.poll())
                process.send_signal(signal.SIGTERM)
                output = "".join(self.end(process, everyone[1:]))
                self.assertEqual(process.returncode, 143, output)

    def test_ctrl_z_stops_the_ranks_too(self) -> None:
        process = self.start("--comm", "gloo", "--set", "run.timeout_s=1.0")
        everyone = [process.pid, *children(process.pid)]
        process.send_signal(signal.SIGTSTP)
        self.wait_until(lambda: all(state(pid) == "T" for pid in everyone))
        steps = self.steps_done()
        time.sleep(1.3)
        self.assertEqual(self.steps_done(), steps)
        process.send_signal(signal.SIGCONT)
        self.wait_until(lambda: self.steps_done() > steps + 2)
        process.send_signal(signal.SIGINT)
        self.end(process, everyone[1:])
        self.assertEqual(process.returncode, 130)

    def test_a_folder_whose_run_is_alive_is_refused(self) -> None:
        for comm in ("inproc", "gloo"):
            with self.subTest(comm=comm):
                process = self.start("--comm", comm, "--overwrite")
                ranks = children(process.pid)
                for arguments in ([], ["--overwrite"]) if comm == "inproc" else (["--overwrite", "--comm", "gloo"],):
                    second = self.train(*arguments)
                    self.assertEqual(second.returncode, 2, second.stderr)
                    holder = ranks[0] if ranks else process.pid
                    self.assertIn(f"a run is alive in the folder (process {holder} on ", second.stderr)
                process.send_signal(signal.SIGINT)
                self.end(process, ranks)
                self.assertEqual(process.returncode, 130)
        self.assertEqual(self.train("--overwrite").returncode, 0)

    def test_rank_killed_before_the_ranks_meet(self) -> None:
        # No clock is asked: were it not at once, the test would take start_timeout_s.
        process = self.launch("--comm", "gloo", "--set", "run.start_timeout_s=600.0", "--set", "run.timeout_s=600.0")
        self.wait_until(lambda: len(children(process.pid)) == 2)
        os.kill(children(process.pid)[1], signal.SIGKILL)
        output = "".join(process.communicate(timeout=120))
        self.assertEqual(process.returncode, 1, output)
        self.assertIn("rank 1 was killed by signal 9 (SIGKILL)", output)
        self.assertFalse((self.folder / "runs").exists(), output)

    def test_a_data_file_that_is_cut_short_is_said(self) -> None:
        for comm in ("inproc", "gloo"):
            with self.subTest(comm=comm):
                (self.folder / "text.txt").write_bytes(command.TEXT * 10)
                process = self.start("--comm", comm, "--overwrite")
                ranks = children(process.pid)
                os.truncate(self.folder / "text.txt", 10)
                output = "".join(self.end(process, ranks))
                self.assertEqual(process.returncode, 1, output)
                self.assertIn("text.txt: the data file has been cut short while it was read: it had 40000 bytes", output)

    def test_a_data_file_that_is_removed_does_not_matter(self) -> None:
        process = self.start()
        (self.folder / "text.txt").unlink()
        steps = self.steps_done()
        self.wait_until(lambda: self.steps_done() > steps + 2)
        process.send_signal(signal.SIGINT)
        self.end(process, [])
        self.assertEqual(process.returncode, 130)

    def test_a_working_directory_that_is_gone_is_said(self) -> None:
        gone = self.folder / "gone"
        gone.mkdir()
        line = (f"cd gone && rmdir ../gone && exec {command.PLAIT} train {self.folder}/job.toml --set "
                f"data.train={self.folder}/text.txt")
        for comm in ("inproc", "gloo"):
            with self.subTest(comm=comm):
                gone.mkdir(exist_ok=True)
                result = subprocess.run(["sh", "-c", f"{line} --comm {comm}"], cwd=self.folder, capture_output=True, text=True,
                                        timeout=120, check=False)
                self.assertEqual(result.returncode, 2, result.stderr)
                self.assertEqual(result.stderr, "plait train: error: the working directory is gone (No such file or directory), needed one\n")

    def test_a_run_whose_folder_is_removed_ends_with_words(self) -> None:
        for comm in ("inproc", "gloo"):
            with self.subTest(comm=comm):
                process = self.start("--comm", comm)
                ranks = children(process.pid)
                shutil.rmtree(self.folder / "runs")
                process.send_signal(signal.SIGTERM)
                output = "".join(self.end(process, ranks))
                self.assertEqual(process.returncode, 1, output)
                self.assertRegex(output, "plait train: (error: )?.*runs/job")

    def test_second_signal_ends_at_once(self) -> None:
        process = self.start("--comm", "gloo")
        ranks = children(process.pid)
        self.assertEqual(len(ranks), 2)
        for rank in ranks:
            os.kill(rank, signal.SIGSTOP)  # no step ends any more
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        self.end(process, ranks)
        self.assertEqual(process.returncode, 130)

    def test_killed_rank_is_named(self) -> None:
        process = self.start("--comm", "gloo")
        ranks = children(process.pid)
        os.kill(ranks[1], signal.SIGKILL)
        output = "".join(self.end(process, ranks))
        self.assertEqual(process.returncode, 1, output)
        self.assertRegex(output, r"rank 1 was killed by signal 9")
        self.assertRegex(output, r"rank 0 (waited (in|for)|waits in|was in|ended)")

    def test_killed_member_of_an_expert_group_is_named(self) -> None:
        process = self.start("--comm", "gloo", "--set", "model.architecture=deepseek-v3", "--set", "model.n_routed_experts=4",
                             "--set", "model.num_experts_per_tok=2", "--set", "model.moe_intermediate_size=8", "--set",
                             "parallel.expert=2", "--set", "parallel.pairs=braid", "--set", "run.batch_size=8")
        ranks = children(process.pid)
        self.assertEqual(len(ranks), 4)
        os.kill(ranks[3], signal.SIGKILL)
        output = "".join(self.end(process, ranks))
        self.assertEqual(process.returncode, 1, output)
        self.assertRegex(output, r"rank 3 was killed by signal 9")
        self.assertRegex(output, r"rank 2 (waited (in|for)|waits in|was in|ended)")

    def test_parents_death_takes_the_ranks_along(self) -> None:
        process = self.start("--comm", "gloo")
        ranks = children(process.pid)
        process.kill()
        process.communicate()
        self.assert_gone(ranks)

    def test_stopped_rank_runs_into_the_timeout(self) -> None:
        process = self.start("--comm", "gloo", "--set", "run.timeout_s=1.5")
        ranks = children(process.pid)
        os.kill(ranks[1], signal.SIGSTOP)
        output = "".join(self.end(process, ranks))
        self.assertEqual(process.returncode, 1, output)
        self.assertRegex(output, r"the cause is rank 1, which is stopped \(SIGSTOP\): rank 0 waits for rank 1\n")
        self.assertRegex(output, r"\n  rank 0 waits (in \S+|between two steps).*, for \d+\.\d s\n")
        self.assertRegex(output, r"\n  rank 1 is stopped \(SIGSTOP\) .*, for \d+\.\d s")
        self.assertIn("rank 1 did not end by itself and was killed", output)
        if "nothing has completed" in output:  # else it was stopped between two steps
            last = (self.folder / "runs/job/rank-0.stall").read_text()
            self.assertRegex(last, r" ms  0F0\n(.*\n)*waits in .*, and did not complete it\n$")

    def test_a_report_is_printed_when_it_is_asked_for(self) -> None:
        for comm in ("inproc", "gloo"):
            with self.subTest(comm=comm):
                process = self.start("--comm", comm, "--overwrite")
                ranks = children(process.pid)
                process.send_signal(signal.SIGUSR1)
                steps = self.steps_done()
                self.wait_until(lambda: self.steps_done() > steps + 2 or process.poll() is not None)
                if ranks:
                    os.kill(ranks[1], signal.SIGSTOP)
                    time.sleep(0.2)
                    process.send_signal(signal.SIGUSR1)
                    time.sleep(1.0)
                    os.kill(ranks[1], signal.SIGCONT)
                    steps = self.steps_done()
                    self.wait_until(lambda: self.steps_done() > steps + 2 or process.poll() is not None)
                process.send_signal(signal.SIGTERM)
                output = "".join(self.end(process, ranks))
                self.assertEqual(process.returncode, 143, output)
                self.assertRegex(output, r"plait train: .*\n  rank 0 .*, for \d+\.\d s\n  rank 1 .*, for \d+\.\d s\n")
                if ranks:
                    self.assertIn("the cause is rank 1, which is stopped (SIGSTOP)", output)

    def test_a_killed_run_is_not_taken_for_a_slow_one(self) -> None:
        process = self.start("--comm", "gloo")
        ranks = children(process.pid)
        self.assertNotIn("killed", self.plait("top", "runs/job", "--once").stdout)
        process.kill()
        self.end(process, ranks)
        self.assertRegex(self.plait("top", "runs/job", "--once").stdout, r"was killed after step \d+: no process runs it any more")

    def test_a_run_that_loses_a_rank_starts_again(self) -> None:
        restarts = ["--comm", "gloo", "--set", "run.on_loss=restart", "--set", "checkpoint.every=1"]
        lost_ranks = (1, 0) if command.NIGHTLY else (0,)
        process = self.start(*restarts, steps="150")
        for lost in lost_ranks:
            before = children(process.pid)
            steps = self.steps_done()
            os.kill(before[lost], signal.SIGKILL)
            self.wait_until(lambda: process.poll() is not None or (len(children(process.pid)) == 2 and self.steps_done() > steps
                                                                  and not set(before) & set(children(process.pid))))
        output = "".join(process.communicate(timeout=120))
        self.assertEqual(process.returncode, 0, output)
        for lost in lost_ranks:
            self.assertRegex(output, rf"plait train: rank {lost} was killed by signal 9 \(SIGKILL\).*; all ranks start again from step [1-9]\d*")
        self.assertEqual(self.train("--set", "run.folder=runs/whole", "--steps", "150").returncode, 0)
        models = [(self.folder / "runs" / name / "model/model.safetensors").read_bytes() for name in ("job", "whole")]
        self.assertTrue(models[0] == models[1])

    def test_loss_that_is_not_finite(self) -> None:
        result = self.train("--set", "optimizer.lr=2e9", "--set", "optimizer.weight_decay=0.5", "--set", "optimizer.clip_norm=0.0", "--set",
                            "optimizer.warmup_steps=0", "--steps", "50")
        self.assertEqual(result.returncode, 1, result.stdout + result.stderr)
        self.assertRegex(result.stderr, r"step \d+: (loss is|tensor \d of its|the gradient)")
        self.assertRegex(result.stderr, r"micro-batch \d+")


if __name__ == "__main__":
    unittest.main()
