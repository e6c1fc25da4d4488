"""Ranks that something else started, by the variables that launchers set. launchers_test.py has the launchers themselves."""

import json
import os
import socket
import subprocess
import unittest

import command


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def variables(launcher: str, rank: int, ranks: int, port: int) -> dict[str, str]:
    master = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return master | {
        "torchrun": {"RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_RANK": str(rank)},
        "mpi": {"OMPI_COMM_WORLD_RANK": str(rank), "OMPI_COMM_WORLD_SIZE": str(ranks), "OMPI_COMM_WORLD_LOCAL_SIZE": str(ranks)},
        "mpich": {"PMI_RANK": str(rank), "PMI_SIZE": str(ranks), "MPI_LOCALRANKID": str(rank), "MPI_LOCALNRANKS": str(ranks)},
        "slurm": {"SLURM_STEP_ID": "0", "SLURM_NTASKS": str(ranks), "SLURM_PROCID": str(rank), "SLURM_STEP_NODELIST": "localhost"},
    }[launcher]


SECRET = "correct horse battery staple"


class LaunchedRanks(command.CommandTest):
    def launch(self, launcher: str, per_rank: list[list[str]], ranks: int = 2, folders: list[str] | None = None,
               clocks: list[list[str]] | None = None, numbers: list[int] | None = None, secrets: list[str] | None = None,
               **environment: str) -> list[tuple[int, str, str]]:
        port = free_port()
        processes = [
            subprocess.Popen([*(clocks[rank] if clocks else []), command.PLAIT, "train", "job.toml", "--comm", "gloo", *arguments], cwd=self.folder / (folders[rank] if folders else "."),
                             text=True,
                             env=os.environ | variables(launcher, numbers[rank] if numbers else rank, ranks, port) | environment
                             | ({"PLAIT_SECRET": secrets[rank]} if secrets and secrets[rank] else {}), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
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
        for launcher in ("torchrun", "mpi", "mpich", "slurm"):
            with self.subTest(launcher):
                folder = ["--set", f"run.folder=runs/{launcher}"]
                secrets = [SECRET, SECRET] if launcher == "mpi" else None
                for code, out, err in self.launch(launcher, [folder, folder], secrets=secrets):
                    self.assertEqual(code, 0, out + err)
                self.assertTrue(self.model(f"runs/{launcher}") == self.model("runs/reference"))

    def test_a_rank_without_the_secret_is_refused(self) -> None:
        for other, words in (("", "presents none"), ("another that is long enough", "presents another one")):
            with self.subTest(words):
                results = self.launch("torchrun", [[], []], secrets=[SECRET, other])
                output = "".join(out + err for _, out, err in results)
                self.assertTrue(all(code in (1, 2) for code, _, _ in results), output)
                self.assertRegex(output, rf"rank [01] {words}, needed the secret of the job's other ranks \(PLAIT_SECRET or PLAIT_SECRET_FILE\)")
                for secret in filter(None, (SECRET, other)):
                    self.assertNotIn(secret, output)
                self.assertFalse((self.folder / "runs").exists())

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
            self.assertRegex(err, "the ranks lowered different programs: .* on rank 1, needed .* as on rank 0")

    def test_two_processes_of_one_rank(self) -> None:
        wait = ["--set", "run.start_timeout_s=600.0"]
        for numbers, words in (([0, 0], "port [0-9]+ is in use on this machine.*one process as rank 0"),
                               ([0, 1, 1], "two processes say that they are rank 1 of 3")):
            job = [*wait, "--ranks", str(len(numbers)), "--microbatches", "6", "--set", "run.batch_size=6"]
            results = self.launch("torchrun", [job] * len(numbers), ranks=len(numbers), numbers=numbers)
            for code, _, err in results:
                self.assertNotEqual(code, 0, err)
                self.assertNotIn("[c10d]", err)
            self.assertRegex("".join(err for _, _, err in results), words)

    def test_a_rank_that_cannot_begin_tells_those_who_wait(self) -> None:
        wait = ["--set", "run.start_timeout_s=600.0"]
        for failing, waiting in ((1, 0), (0, 1)):
            with self.subTest(failing=failing):
                arguments = [wait, wait]
                arguments[failing] = [*wait, "--set", "data.train=none.txt"]
                results = self.launch("mpich", arguments)
                self.assertEqual(results[failing][0], 2, results[failing][2])
                self.assertEqual(results[waiting][0], 1, results[waiting][2])
                self.assertIn(f"rank {failing}: none.txt: the data file cannot be opened", results[waiting][2])
                self.assertFalse((self.folder / "runs").exists())

    def test_an_address_that_leads_nowhere_is_an_error_at_once(self) -> None:
        # Were it not, the test would take start_timeout_s.
        wait = ["--set", "run.start_timeout_s=600.0"]
        for address, words in (("no-such-host.invalid", "does not resolve"), ("", "is empty")):
            for numbers in ([0], [1]):
                [(code, _, err)] = self.launch("torchrun", [wait], numbers=numbers, MASTER_ADDR=address)
                self.assertEqual(code, 2, err)
                self.assertRegex(err, f"^plait train: error: MASTER_ADDR: .*{words}")
                self.assertEqual(err.count("\n"), 1, err)

    def test_network_interfaces_as_torch_takes_them(self) -> None:
        for value in ("lo", "lo,lo", ""):
            with self.subTest(value):
                for code, out, err in self.launch("torchrun", [["--overwrite"], ["--overwrite"]], GLOO_SOCKET_IFNAME=value):
                    self.assertEqual(code, 0, out + err)
        for code, _, err in self.launch("torchrun", [["--overwrite"], ["--overwrite"]], GLOO_SOCKET_IFNAME="lo,eth77"):
            self.assertEqual(code, 2, err)
            self.assertIn("GLOO_SOCKET_IFNAME: 'eth77' is no network interface with an address here, needed some of lo", err)

    def test_a_rank_that_never_comes(self) -> None:
        for code, _, err in self.launch("torchrun", [["--set", "run.start_timeout_s=2.0"]]):
            self.assertEqual(code, 1, err)
            self.assertIn("rank 1 did not come within 2 s", err)
        self.assertFalse((self.folder / "runs").exists())


if __name__ == "__main__":
    unittest.main()
