"""Commands that a test watches, signals and ends while they run."""

import os
import pathlib
import signal
import subprocess

import command


def start(*arguments: str, folder: pathlib.Path) -> subprocess.Popen:
    """The command on its own. What it prints comes by communicate()."""
    return subprocess.Popen([command.PLAIT, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            start_new_session=True)


def kill_all(process: subprocess.Popen) -> str:
    """Kills it with all of its processes, and returns what it has said on stderr, once."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    return "" if process.stderr.closed else process.communicate()[1]
