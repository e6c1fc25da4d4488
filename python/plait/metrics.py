"""The metrics of a training run."""

from __future__ import annotations

import dataclasses
import os
import pathlib

import numpy
import numpy.typing

from plait import _core

__all__ = ["MetricInfo", "metric_fields", "read_metrics"]


def read_metrics(path: str | os.PathLike[str]) -> dict[str, numpy.typing.NDArray[numpy.float64]]:
    """The metrics.jsonl of a run, or of a run's folder, as columns; also of a run that still goes on.

    Every step is a row. What has a number for each rank is a column for each rank, "bubble_share.0" for
    rank 0. A validation is a row of its step: its columns are NaN in the others.

    Returns:
        Arrays of one length by name, as pandas.DataFrame takes them.

    Raises:
        InvalidInput: another program's file or version, a line that is wrong, with its number.

    >>> pandas.DataFrame(plait.read_metrics("runs/bible")).plot("step", "loss")
    """
    file = pathlib.Path(path)
    if file.is_dir():
        file = file / "metrics.jsonl"
    rows: dict[int, dict[str, float]] = {}
    names: dict[str, None] = {"step": None}
    for line in _core.read_metrics(os.fspath(file)):
        step = line["step"]
        assert isinstance(step, int)
        row = rows.setdefault(step, {})
        for name, value in line.items():
            if isinstance(value, list):
                row.update({f"{name}.{rank}": number for rank, number in enumerate(value)})
            else:
                row[name] = value
        names.update(dict.fromkeys(row))
    return {name: numpy.array([row.get(name, numpy.nan) for row in rows.values()], dtype=numpy.float64) for name in names}


@dataclasses.dataclass(frozen=True)
class MetricInfo:
    """A field of a step.

    Attributes:
        name, meaning: as docs/job.md has them.
        of_ranks: there is a column for each rank.
    """

    name: str
    meaning: str
    of_ranks: bool


def metric_fields() -> dict[str, MetricInfo]:
    """What the columns of `read_metrics` are, by name."""
    return {row[0]: MetricInfo(*row) for row in _core.step_fields()}
