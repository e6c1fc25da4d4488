"""Runs a function on several ranks, each a process of a Gloo group: what tests of plait.pipelining share."""

from __future__ import annotations

import os
import pathlib
import pickle
import socket
import subprocess
import sys
import tempfile
import traceback
from typing import Any

TIMEOUT_S = 400


def own_stages(rank: int, ranks: int, chunks: int, on_a_v: bool) -> list[int]:
    """This rank's, in a loop over the ranks or down and up a V of two stages a rank."""
    count = ranks * chunks
    return [rank, count - 1 - rank] if on_a_v else list(range(rank, count, ranks))


def on_ranks(function: Any, ranks: int, *args: Any, timeout_s: int = 60) -> list[Any]:
    """What `function(rank, ranks, *args)`, of a test's module, returned on each rank.

    A tuple is the end of a step that failed; one that nobody caught is (type, text, notes). `timeout_s`: the group's.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
                       "GLOO_SOCKET_IFNAME": "lo"}
        processes = []
        for rank in range(ranks):
            task = pathlib.Path(folder, f"task{rank}")
            task.write_bytes(pickle.dumps((pathlib.Path(function.__code__.co_filename).stem, function.__qualname__, rank, ranks, args, timeout_s)))
            command = [sys.executable, __file__, str(task), str(pathlib.Path(folder, f"result{rank}"))]
            processes.append(subprocess.Popen(command, env=environment, cwd=pathlib.Path(__file__).parent))
        try:
            for process in processes:
                process.wait(TIMEOUT_S)
        finally:
            for process in processes:
                process.kill()
        return [pickle.loads(pathlib.Path(folder, f"result{rank}").read_bytes()) for rank in range(ranks)]


def _run(task: str, result: str) -> None:
    import datetime
    import importlib

    import torch
    import torch.distributed as dist

    module, name, rank, ranks, args, timeout_s = pickle.loads(pathlib.Path(task).read_bytes())
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=ranks, timeout=datetime.timedelta(seconds=timeout_s))
    try:
        function = getattr(importlib.import_module(module), name)
        returned = function(rank, ranks, *args)
    except BaseException as error:  # noqa: BLE001: it is what the test looks at
        traceback.print_exc()
        notes = "\n".join(getattr(error, "__notes__", []))
        returned = (type(error).__name__, str(error), notes)
    pathlib.Path(result).write_bytes(pickle.dumps(returned))
    if isinstance(returned, tuple):
        os._exit(0)  # a step that failed has left messages under way
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    _run(sys.argv[1], sys.argv[2])
