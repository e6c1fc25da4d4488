"""Runs that end early: on request, by a rank's death, by a loss that is not finite. No process stays behind."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import time
import unittest

import command


def children(pid: int) -> list[int]:
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(child) for child in task.read_text().split()]
    return found


def alive(pid: int) -> bool:
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


class InterruptedRun(command.CommandTest):
    def start(self, *arguments: str) -> subprocess.Popen:
        """Starts a run that lasts long enough, and returns when it has taken its second step."""
        shutil.rmtree(self.folder / "runs", ignore_errors=True)
        process = subprocess.Popen([command.PLAIT, "train", "job.toml", "--steps", "1000000", *arguments], cwd=self.folder,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        metrics = self.folder / "runs/job/metrics.jsonl"
        for _ in range(1200):
            if metrics.exists() and metrics.read_text().count("\n") > 2:
                return process
            if process.poll() is not None:
                break
            time.sleep(0.05)
        process.kill()
        self.fail("the run did not start: " + "".join(process.communicate()))

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
        for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            for comm in ("inproc", "gloo"):
                with self.subTest(signal=number, comm=comm):
                    process = self.start("--comm", comm, "--overwrite")
                    ranks = children(process.pid)
                    process.send_signal(number)
                    output = "".join(self.end(process, ranks))
                    self.assertEqual(process.returncode, code, output)
                    self.assertIn("after step", output)
                    lines = (self.folder / "runs/job/metrics.jsonl").read_text().splitlines()
                    for line in lines:
                        json.loads(line)  # none is cut short

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
        process = self.start("--comm", "gloo", "--set", "run.timeout_s=3.0")
        ranks = children(process.pid)
        os.kill(ranks[1], signal.SIGSTOP)
        output = "".join(self.end(process, ranks))
        self.assertEqual(process.returncode, 1, output)
        self.assertRegex(output, r"rank 0 (waited|waits) (in|for) \S+")
        self.assertIn("rank 1 did not end by itself and was killed", output)

    def test_loss_that_is_not_finite(self) -> None:
        result = self.train("--set", "optimizer.lr=2e9", "--set", "optimizer.weight_decay=0.5", "--set", "optimizer.clip_norm=0.0", "--set",
                            "optimizer.warmup_steps=0", "--steps", "50")
        self.assertEqual(result.returncode, 1, result.stdout + result.stderr)
        self.assertRegex(result.stderr, r"step \d+.*(loss is|gradient)")
        self.assertRegex(result.stderr, r"micro-batch \d+")


if __name__ == "__main__":
    unittest.main()
