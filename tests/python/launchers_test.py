"""Ranks that the real launchers start: torchrun, Open MPI, MPICH and a one-node Slurm, each where it is installed. A missing one
is skipped with the reason; with PLAIT_NIGHTLY=1 it is a failure, and all that is tested is."""

import functools
import os
import pathlib
import re
import shutil
import subprocess
import sys
import unittest

import command

nightly = unittest.skipUnless(command.NIGHTLY, "in the nightly")
OWN_MODULE = os.environ["OWN_MODULE"]
TORCHRUN = pathlib.Path(sys.executable).parent / "torchrun"


@functools.cache
def slurm_answers() -> bool:
    if shutil.which("srun") is None:
        return False
    try:
        nodes = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return False
    return nodes.returncode == 0 and any(state in nodes.stdout for state in ("idle", "mixed", "allocated"))


def openmpi() -> str | None:
    for name in ("mpirun.openmpi", "mpirun"):
        if shutil.which(name) is None:
            continue
        version = subprocess.run([name, "--version"], capture_output=True, text=True, check=False).stdout
        if "Open MPI" in version:
            return name
    return None


class LauncherTest(command.CommandTest):
    def start(self, launch: list[str], *arguments: str) -> subprocess.Popen:
        return self.start_line([*launch, command.PLAIT, "train", "job.toml", *arguments])

    def start_line(self, line: list[str]) -> subprocess.Popen:
        process = subprocess.Popen(line, cwd=self.folder, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def end(self, process: subprocess.Popen) -> tuple[int, str]:
        output, _ = process.communicate(timeout=300)
        return process.returncode, output

    def missing(self, why: str) -> None:
        if command.NIGHTLY:
            self.fail(why)
        self.skipTest(why)

    def model(self, run: str) -> bytes:
        return (self.folder / "runs" / run / "model/model.safetensors").read_bytes()


class UnderEach:
    """What holds under every launcher; a class below for each."""

    title = ""  # as plait names it
    rank = ""  # its variable
    ports = True  # its runs on one machine have one each

    def launch(self, ranks: int) -> list[str]:
        """What to write before the command. Skips where the launcher is missing."""
        raise NotImplementedError

    def test_two_ranks_train_one_job(self) -> None:
        launch = self.launch(2)
        self.assertEqual(self.train("--reference", "--set", "run.folder=runs/reference").returncode, 0)
        code, output = self.end(self.start(launch, "--comm", "gloo"))
        self.assertEqual(code, 0, output)
        self.assertEqual(output.count("step 3/3"), 1, output)
        self.assertTrue(self.model("job") == self.model("reference"))

    def test_two_ranks_train_modules_of_their_own(self) -> None:
        if self.title != "torchrun" and not command.NIGHTLY:
            self.skipTest("in the nightly")
        launch = self.launch(2)
        alone = self.end(self.start_line([OWN_MODULE]))
        self.assertEqual(alone[0], 0, alone[1])
        code, output = self.end(self.start_line([*launch, OWN_MODULE, "--comm", "gloo"]))
        self.assertEqual(code, 0, output)
        steps = [re.findall("step .*", text) for text in (alone[1], output)]
        self.assertEqual(len(steps[0]), 3, alone[1])
        self.assertEqual(steps[0], steps[1])

    def test_whole_jobs_side_by_side_are_refused(self) -> None:
        code, output = self.end(self.start(self.launch(2)))
        self.assertNotEqual(code, 0, output)
        self.assertIn(f"run.comm: is inproc, but {self.title} started 2 processes", output)
        self.assertFalse((self.folder / "runs").exists(), output)

    @nightly
    def test_another_number_of_ranks_is_named(self) -> None:
        code, output = self.end(self.start(self.launch(2), "--comm", "gloo", "--ranks", "4", "--microbatches", "8",
                                          "--set", "run.batch_size=8"))
        self.assertNotEqual(code, 0, output)
        self.assertIn(f"2 processes were started ({self.title}, ", output)
        self.assertIn("the job has 4 ranks", output)

    @nightly
    def test_one_process_starts_its_ranks_itself(self) -> None:
        code, output = self.end(self.start(self.launch(1), "--comm", "gloo"))
        self.assertEqual(code, 0, output)
        self.assertTrue((self.folder / "runs/job/rank-1.log").exists(), output)

    @nightly
    def test_a_rank_that_fails_ends_the_run(self) -> None:
        train = f"exec {command.PLAIT} train job.toml --comm gloo --set"
        code, output = self.end(self.start_line([
            *self.launch(2), "sh", "-c", f"[ ${self.rank} = 1 ] && {train} data.train=none.txt; {train} run.start_timeout_s=600.0"]))
        self.assertNotEqual(code, 0, output)
        self.assertIn("none.txt: the data file cannot be opened", output)
        self.assertFalse((self.folder / "runs").exists(), output)

    @nightly
    def test_a_folder_that_exists_ends_all_ranks(self) -> None:
        launch = self.launch(2)
        (self.folder / "runs/job").mkdir(parents=True)
        code, output = self.end(self.start(launch, "--comm", "gloo", "--set", "run.start_timeout_s=600.0"))
        self.assertNotEqual(code, 0, output)
        self.assertIn("runs/job: the run folder exists already", output)

    @nightly
    def test_two_runs_on_one_machine(self) -> None:
        launch = self.launch(2)
        if not self.ports:
            self.skipTest(f"{self.title} tells its processes nothing that its runs differ in")
        runs = [self.start(launch, "--comm", "gloo", "--set", f"run.folder=runs/{run}") for run in ("one", "two")]
        for run in runs:
            code, output = self.end(run)
            self.assertEqual(code, 0, output)
        self.assertTrue(self.model("one") == self.model("two"))


class Torchrun(UnderEach, LauncherTest):
    title = "torchrun"
    rank = "RANK"

    def launch(self, ranks: int) -> list[str]:
        if not TORCHRUN.exists():
            self.missing("the venv has no torch, and so no torchrun")
        return [str(TORCHRUN), "--no-python", "--standalone", "--nproc-per-node", str(ranks)]


class OpenMpi(UnderEach, LauncherTest):
    title = "Open MPI"
    rank = "OMPI_COMM_WORLD_RANK"

    def launch(self, ranks: int) -> list[str]:
        name = openmpi()
        if name is None:
            self.missing("Open MPI's mpirun is not installed (scripts/setup --ci)")
        return [name, *(["--allow-run-as-root"] if os.getuid() == 0 else []), "--oversubscribe", "-np", str(ranks)]


class Mpich(UnderEach, LauncherTest):
    title = "MPICH or Intel MPI"
    rank = "PMI_RANK"
    ports = False

    def launch(self, ranks: int) -> list[str]:
        if shutil.which("mpiexec.hydra") is None:
            self.missing("MPICH's mpiexec.hydra is not installed (scripts/setup --launchers)")
        return ["mpiexec.hydra", "-n", str(ranks)]

    def test_a_rank_that_is_killed_before_all_have_met_ends_the_others(self) -> None:
        # Hydra ends them; were it not to, the test would take start_timeout_s.
        code, output = self.end(self.start_line([
            *self.launch(2), "sh", "-c", f"[ $PMI_RANK = 1 ] && kill -9 $$; exec {command.PLAIT} train job.toml --comm gloo "
                                         "--set run.start_timeout_s=600.0"]))
        self.assertNotEqual(code, 0, output)
        self.assertNotIn("step 1/3", output)
        self.assertFalse((self.folder / "runs").exists(), output)


class Slurm(UnderEach, LauncherTest):
    title = "Slurm"
    rank = "SLURM_PROCID"

    def launch(self, ranks: int) -> list[str]:
        if not slurm_answers():
            self.missing("no Slurm answers (scripts/setup --launchers, scripts/one_node_slurm start)")
        return ["srun", "--kill-on-bad-exit=1", "-n", str(ranks)]

    def test_the_command_of_an_salloc_is_local(self) -> None:
        self.launch(2)
        code, output = self.end(self.start(["salloc", "-n", "2"], "--comm", "gloo"))
        self.assertEqual(code, 0, output)
        self.assertTrue((self.folder / "runs/job/rank-1.log").exists(), output)

    def test_srun_in_a_batch_script(self) -> None:
        self.launch(2)
        (self.folder / "batch.sh").write_text(
            f"#!/bin/sh\n#SBATCH -n 2\n#SBATCH -o out.txt\nsrun {command.PLAIT} train job.toml --comm gloo\n")
        code, words = self.end(self.start_line(["sbatch", "-W", "batch.sh"]))
        output = (self.folder / "out.txt").read_text()
        self.assertEqual(code, 0, words + output)
        self.assertEqual(output.count("step 3/3"), 1, output)


if __name__ == "__main__":
    unittest.main()
