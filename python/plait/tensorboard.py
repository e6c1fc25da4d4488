"""The metrics of a run for TensorBoard.

    python -m plait.tensorboard runs/x             writes runs/x/tensorboard
    tensorboard --logdir runs/x/tensorboard

Needs the package tensorboard: ``pip install 'plait[tensorboard]'``.
"""

from __future__ import annotations

import argparse
import importlib
import math
import os
import pathlib
import sys
from typing import Any

from plait.errors import Error, NotBuilt
from plait.metrics import read_metrics

__all__ = ["main", "write"]


def write(run: str | os.PathLike[str], folder: str | os.PathLike[str] | None = None) -> pathlib.Path:
    """Writes the metrics of a run as scalars that TensorBoard opens; what an earlier call wrote there goes.

    A column of each rank, "bubble_share.0", is the tag "bubble_share/rank 0". A step's wall time is such that
    the last step ended when its file was written.

    Args:
        run: a run's folder, or its metrics.jsonl.
        folder: where to write; `tensorboard` in the run's folder unless given.

    Returns:
        The folder.

    Raises:
        InvalidInput: the metrics cannot be read; see `plait.read_metrics`.
        NotBuilt: the package tensorboard is not installed.
    """
    columns = read_metrics(run)
    file = pathlib.Path(run)
    file = file / "metrics.jsonl" if file.is_dir() else file
    target = file.parent / "tensorboard" if folder is None else pathlib.Path(folder)
    try:
        summary: Any = importlib.import_module("tensorboard.compat.proto.summary_pb2")
        event: Any = importlib.import_module("tensorboard.compat.proto.event_pb2")
        writer: Any = importlib.import_module("tensorboard.summary.writer.event_file_writer")
    except ImportError:
        raise NotBuilt("found no package tensorboard, needed it: pip install 'plait[tensorboard]'") from None
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob("events.out.tfevents.*.plait"):
        old.unlink()
    ends = columns["step_ns"].cumsum() / 1e9
    begin = file.stat().st_mtime - (float(ends[-1]) if len(ends) else 0.0)
    events = writer.EventFileWriter(os.fspath(target), filename_suffix=".plait")
    for row, step in enumerate(columns["step"]):
        values = [
            summary.Summary.Value(tag=_tag(name), simple_value=float(column[row]))
            for name, column in columns.items()
            if name != "step" and not math.isnan(column[row])
        ]
        events.add_event(event.Event(wall_time=begin + float(ends[row]), step=int(step), summary=summary.Summary(value=values)))
    events.close()
    return target


def _tag(column: str) -> str:
    name, dot, rank = column.partition(".")
    return f"{name}/rank {rank}" if dot else name


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns its exit code: 0, or 2 for wrong use or input."""
    parser = argparse.ArgumentParser(prog="python -m plait.tensorboard", description="Writes a run's metrics for TensorBoard.")
    parser.add_argument("run", help="a run's folder, or its metrics.jsonl")
    parser.add_argument("--out", metavar="FOLDER", help="where to write; tensorboard in the run's folder unless given")
    given = parser.parse_args(arguments)
    try:
        folder = write(given.run, given.out)
    except (Error, OSError) as error:
        print(f"plait.tensorboard: error: {error}", file=sys.stderr)
        return 2
    print(f"written to {folder}: tensorboard --logdir {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
