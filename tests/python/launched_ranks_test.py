"""Ranks that something else started: by the variables torchrun, mpirun and Slurm set, and by torchrun itself."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import unittest

import command

TORCHRUN = pathlib.Path(sys.executable).parent / "torchrun"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def variables(launcher: str, rank: int, ranks: int, port: int) -> dict[str, str]:
    master = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return master | {
        "torchrun": {"RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_RANK": str(rank)},
        "mpi": {"OMPI_COMM_WORLD_RANK": str(rank), "OMPI_COMM_WORLD_SIZE": str(ranks), "OMPI_COMM_WORLD_LOCAL_SIZE": str(ranks)},
        "slurm": {"SLURM_STEP_ID": "0", "SLURM_NTASKS": str(ranks), "SLURM_PROCID": str(rank), "SLURM_STEP_NODELIST": "localhost"},
    }[launcher]


class LaunchedRanks(command.CommandTest):
    def launch(self, launcher: str, per_rank: list[list[str]], ranks: int = 2, folders: list[str] | None = None,
               clocks: list[list[str]] | None = None) -> list[tuple[int, str, str]]:
        port = free_port()
        processes = [
            subprocess.Popen([*(clocks[rank] if clocks else []), command.PLAIT, "train", "job.toml", "--comm", "gloo", *arguments], cwd=self.folder / (folders[rank] if folders else "."),
                             text=True, env=os.environ | variables(launcher, rank, ranks, port), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for rank, arguments in enumerate(per_rank)]
        results = []
        for process in processes:
            output = process.communicate(timeout=60)
            results.append((process.returncode, *output))
        return results

    def model(self, folder: str) -> bytes:
        return (self.folder / folder / "model/model.safetensors").read_bytes()

    def test_each_launchers_variables(self) -> None:
        self.assertEqual(self.train("--reference", "--set", "run.folder=runs/reference").returncode, 0)
        for launcher in ("torchrun", "mpi", "slurm"):
            with self.subTest(launcher):
                folder = ["--set", f"run.folder=runs/{launcher}"]
                for code, out, err in self.launch(launcher, [folder, folder]):
                    self.assertEqual(code, 0, out + err)
                self.assertTrue(self.model(f"runs/{launcher}") == self.model("runs/reference"))

    def test_clocks_that_differ_are_put_on_one(self) -> None:
        ahead = 3600
        other_clock = ["unshare", "--time", "--monotonic", str(ahead)]
        if subprocess.run([*other_clock, "true"], capture_output=True, check=False).returncode != 0:
            self.skipTest("a time namespace cannot be made here")
        record = ["--record", "3"]
        for code, out, err in self.launch("torchrun", [record, record], clocks=[[], other_clock]):
            self.assertEqual(code, 0, out + err)
        trace = json.loads((self.folder / "runs/job/timeline.json").read_text())
        first, second = trace["plait"]["clocks"]
        self.assertEqual(first, {"offset_ns": 0, "error_ns": 0})
        self.assertLessEqual(abs(second["offset_ns"] - ahead * 10**9), second["error_ns"])
        self.assertLess(second["error_ns"], ahead * 10**6)
        steps = [json.loads(line) for line in (self.folder / "runs/job/metrics.jsonl").read_text().splitlines()]
        self.assertGreater(steps[1]["clock_error_ns"][1], 0)
        # Nothing is received before it is sent.
        sent = {event["id"]: event["ts"] for event in trace["traceEvents"] if event["ph"] == "s"}
        received = {event["id"]: event["ts"] for event in trace["traceEvents"] if event["ph"] == "f"}
        self.assertTrue(sent)
        for message, time in sent.items():
            self.assertGreater(received[message] + 2 * second["error_ns"] / 1000, time)

    @unittest.skipUnless(TORCHRUN.exists(), "the venv has no torch")
    def test_torchrun_itself(self) -> None:
        result = subprocess.run([TORCHRUN, "--no-python", "--nproc-per-node", "2", "--master-port", str(free_port()), command.PLAIT,
                                 "train", "job.toml", "--comm", "gloo"], cwd=self.folder, capture_output=True, text=True,
                                timeout=120, check=False)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertTrue((self.folder / "runs/job/model/model.safetensors").exists())

    def test_ranks_that_disagree_about_the_job(self) -> None:
        for code, _, err in self.launch("torchrun", [[], ["--set", "optimizer.lr=0.5"]]):
            self.assertEqual(code, 2, err)
            self.assertIn("rank 1 has 'lr = 0.5', rank 0 has 'lr = 0.003'", err)
        self.assertFalse((self.folder / "runs").exists())

    def test_ranks_whose_schedule_files_differ(self) -> None:
        for rank, order in enumerate(("0F0,0F1,0B0,0B1", "0F0,0B0,0F1,0B1")):
            (self.folder / f"rank{rank}").mkdir()
            (self.folder / f"rank{rank}" / "own.csv").write_text(f"{order}\n1F0,1B0,1F1,1B1\n")
            for file in ("job.toml", "text.txt"):
                (self.folder / f"rank{rank}" / file).symlink_to(self.folder / file)
        own = ["--schedule", "own.csv", "--ranks", "2", "--microbatches", "2"]
        for code, _, err in self.launch("torchrun", [own, own], folders=["rank0", "rank1"]):
            self.assertEqual(code, 2, err)
            self.assertIn("the ranks disagree about the job: rank 1 has 'rank 0 ", err)

    def test_a_rank_that_never_comes(self) -> None:
        for code, _, err in self.launch("torchrun", [["--set", "run.start_timeout_s=2.0"]]):
            self.assertEqual(code, 1, err)
            self.assertIn("rank 1 did not come within 2 s", err)
        self.assertFalse((self.folder / "runs").exists())


if __name__ == "__main__":
    unittest.main()
