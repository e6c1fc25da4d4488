"""Commands that a test watches, signals and ends while they run."""

import os
import pathlib
import signal
import subprocess
import tempfile

import command


class Served:
    """A command that the server runs, as a Popen: it starts in milliseconds."""

    def __init__(self, arguments: list[str], folder: pathlib.Path) -> None:
        self.holder = tempfile.TemporaryDirectory()
        self.out, self.err = (pathlib.Path(self.holder.name) / name for name in ("out", "err"))
        self.returncode: int | None = None
        self.said = "", ""
        self.pid = int(command.server().ask({"start": True, "arguments": arguments, "folder": str(folder), "out": str(self.out), "err": str(self.err)}, 60))

    def poll(self) -> int | None:
        return self.learn({"poll": self.pid}, 60)

    def wait(self, timeout: float = 120) -> int | None:
        return self.learn({"wait": self.pid}, timeout)

    def learn(self, request: dict, timeout: float) -> int | None:
        if self.returncode is None:
            answer = command.server().ask(request, timeout)
            self.returncode = None if answer == "runs" else int(answer)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float = 120) -> tuple[str, str]:
        self.wait(timeout)
        if self.out.exists():
            self.said = self.out.read_text(), self.err.read_text()
            self.holder.cleanup()
        return self.said


def start(*arguments: str, folder: pathlib.Path) -> subprocess.Popen | Served:
    """The command on its own, by the server if it is one process that needs torch. What it prints comes by communicate()."""
    if command.SERVER and command.is_one_process(folder / "job.toml", *arguments):
        return Served(list(arguments), folder)
    return subprocess.Popen([command.PLAIT, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            start_new_session=True)


def kill_all(process: subprocess.Popen | Served) -> str:
    """Kills it with all of its processes, and returns what it has said on stderr, once."""
    if process.poll() is None:
        if isinstance(process, Served):
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    if isinstance(process, subprocess.Popen) and process.stderr.closed:
        return ""
    return process.communicate()[1]
