"""Runs the plait command as a user would; shared by the tests of this folder."""

import atexit
import functools
import itertools
import json
import os
import pathlib
import select
import subprocess
import tempfile
import tomllib
import unittest
from collections.abc import Callable, Sequence

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PLAIT = os.environ.get("PLAIT", str(ROOT / "build/release/bin/plait"))
# tests/command_server.cc, for what needs torch and is one process; "": every command is started by itself.
SERVER = os.environ.get("COMMAND_SERVER", "")

# A model that trains a step in milliseconds.
SMALL_JOB = """
[model]
vocab_size = 256
hidden_size = 16
intermediate_size = 24
num_hidden_layers = 8
num_attention_heads = 2
num_key_value_heads = 1

[data]
train = "text.txt"
validation_share = 0.2
sequence_length = 8

[parallel]
pipeline = 2
schedule = "dualpipe-v"
microbatches = 4

[run]
steps = 3
batch_size = 4
seed = 7
timeout_s = 20.0
"""

TEXT = bytes(32 + (i * i + i // 7) % 90 for i in range(4000))


NIGHTLY = os.environ.get("PLAIT_NIGHTLY") == "1"
CI = os.environ.get("PLAIT_CI") == "1"  # more than `make test` has time for


def covering(parameters: dict[str, Sequence], wanted: Callable[[dict], bool] = lambda _: True) -> list[dict]:
    """Of the combinations that are wanted, some in which every value occurs, in CI every pair of values of two parameters:
    few, the same every time, and where there is a choice with values that stand first."""
    def pairs(row: tuple) -> set:
        return set(itertools.combinations(enumerate(row), 2 if CI else 1))

    product = [(row, pairs(row)) for row in itertools.product(*parameters.values()) if wanted(dict(zip(parameters, row)))]
    missing = set().union(*(of for _, of in product))
    rows = []
    while missing:
        row, of = max(product, key=lambda one: len(one[1] & missing))
        rows.append(row)
        missing -= of
    for number, place in itertools.product(range(len(rows)), range(len(parameters))):
        others = set().union(*(pairs(row) for i, row in enumerate(rows) if i != number))
        needed = pairs(rows[number]) - others
        for value in list(parameters.values())[place]:
            cheaper = (*rows[number][:place], value, *rows[number][place + 1:])
            if needed <= pairs(cheaper) and wanted(dict(zip(parameters, cheaper))):
                rows[number] = cheaper
                break
    return [dict(zip(parameters, row)) for row in rows]


class Server:
    """Runs commands as forks of one process that has loaded torch."""

    def __init__(self) -> None:
        self.process = subprocess.Popen([SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        atexit.register(self.end)

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait()

    def run(self, arguments: list[str], folder: pathlib.Path, timeout: float, ranks: int = 0) -> subprocess.CompletedProcess:
        """`ranks`: as many processes, as torchrun starts them; 0: one that no launcher started."""
        with tempfile.TemporaryDirectory() as holder:
            out, err = pathlib.Path(holder) / "out", pathlib.Path(holder) / "err"
            request = {"arguments": arguments, "folder": str(folder), "out": str(out), "err": str(err), "ranks": ranks}
            code = int(self.ask(request, timeout))
            return subprocess.CompletedProcess(arguments, code, out.read_text(), err.read_text())

    def ask(self, request: dict, timeout: float) -> str:
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], timeout)[0]:
            self.process.kill()
            raise subprocess.TimeoutExpired(str(request), timeout)
        return self.process.stdout.readline().strip()


@functools.cache
def server() -> Server:
    return Server()


def plait(*arguments: str, folder: pathlib.Path, timeout: float = 120) -> subprocess.CompletedProcess:
    """Runs the command, by the server if it is one process that needs torch."""
    if SERVER and is_one_process(folder / "job.toml", *arguments):
        return server().run(list(arguments), folder, timeout)
    return subprocess.run([PLAIT, *arguments], cwd=folder, capture_output=True, text=True, timeout=timeout, check=False)


def is_one_process(job: pathlib.Path, *arguments: str) -> bool:
    """True of a command that needs torch and starts no ranks that are processes."""
    if arguments[0] not in ("train", "profile", "sample", "export") and "--measure" not in arguments:
        return False
    return "gloo" not in " ".join(arguments) and not (job.is_file() and "gloo" in job.read_text(errors="replace"))


class CommandTest(unittest.TestCase):
    """Each test has a folder of its own with a small job and its data."""

    def setUp(self) -> None:
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = pathlib.Path(holder.name)
        (self.folder / "text.txt").write_bytes(TEXT)
        (self.folder / "job.toml").write_text(SMALL_JOB)

    def plait(self, *arguments: str, timeout: float = 120, env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
        if not env:
            return plait(*arguments, folder=self.folder, timeout=timeout)
        return subprocess.run([PLAIT, *arguments], cwd=self.folder, capture_output=True, text=True, timeout=timeout,
                              env={**os.environ, **env}, check=False)

    def train(self, *arguments: str, **options) -> subprocess.CompletedProcess:
        return self.plait("train", "job.toml", *arguments, **options)

    def metrics_of(self, run: str) -> list[dict]:
        """The lines of steps and validations of a run in runs/."""
        return [json.loads(line) for line in (self.folder / "runs" / run / "metrics.jsonl").read_text().splitlines()[1:]]

    def train_by_ranks(self, *arguments: str) -> subprocess.CompletedProcess:
        """As train(); a run over Gloo has its ranks forked by the server, if there is one, instead of started anew."""
        if not SERVER or "gloo" not in arguments:
            return self.train(*arguments)
        parallel = tomllib.loads((self.folder / "job.toml").read_text())["parallel"]
        for flag, value in itertools.pairwise(arguments):
            if flag == "--ranks":
                parallel["pipeline"] = int(value)
            elif flag == "--set" and value.partition("=")[0] in ("parallel.data", "parallel.expert"):
                parallel[value.partition("=")[0].removeprefix("parallel.")] = int(value.partition("=")[2])
        ranks = parallel["pipeline"] * parallel.get("data", 1) * parallel.get("expert", 1)
        if ranks == 1:
            return self.train(*arguments)
        return server().run(["train", "job.toml", *arguments], self.folder, 120, ranks)

    def train_for_parity(self, name: str, *arguments: str) -> tuple[list, bytes, bytes, list]:
        """Three steps in runs/<name>: losses, norms and the validation's loss; gradients; parameters; pairs by step."""
        folder = f"runs/{name}"
        result = self.train_by_ranks("--save-gradients", "--set", "optimizer.warmup_steps=0", *arguments, "--set",
                                     f"run.folder={folder}", "--overwrite")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        lines = self.metrics_of(name)
        trained = [line for line in lines if "loss" in line]
        steps = [(line["loss"], line["grad_norm"]) for line in trained]
        steps += [line["validation_loss"] for line in lines if "validation_loss" in line]
        self.assertEqual(len(steps), 4)
        return (steps, (self.folder / folder / "gradients.safetensors").read_bytes(),
                (self.folder / folder / "model/model.safetensors").read_bytes(),
                [(line["pairs_braided"], line["pairs_in_sequence"]) for line in trained])

    def assert_same_training(self, one: tuple, other: tuple) -> None:
        self.assertEqual(one[0], other[0], "losses and norms")
        self.assertTrue(one[1] == other[1], "gradients differ")
        self.assertTrue(one[2] == other[2], "parameters differ")

    def write_job(self, **sections: dict) -> None:
        """Rewrites job.toml with keys changed or added."""
        job = tomllib.loads(SMALL_JOB)
        for section, keys in sections.items():
            job.setdefault(section, {}).update(keys)
        lines = []
        for section, keys in job.items():
            lines.append(f"[{section}]")
            lines += [f"{key} = {toml(value)}" for key, value in keys.items()]
        (self.folder / "job.toml").write_text("\n".join(lines) + "\n")

    def files(self) -> set[str]:
        return {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*")}


def toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)
