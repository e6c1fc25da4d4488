"""What actions, messages and pairs cost."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Union

from plait import _core
from plait.errors import InvalidInput

__all__ = ["Costs", "CostsLike"]

Number = Union[int, float]
Value = Union[Number, str, Sequence[int], Sequence[Mapping[str, int]]]

_PAIR_KEYS = {"pair_ns": "ns", "pair_share": "share", "braid": "braid"}


class Costs:
    """Costs of a step, in integer nanoseconds and bytes, all per stage: docs/simulate.md has every key.

    Args:
        keys: of a stage (``f_ns``, ``i_ns``, ``w_ns``, ``b_ns``, ``activation_bytes``, …: a number, or
            a list with one for each stage), of a link between ranks (``comm_ns``, or ``latency_ns``,
            ``bandwidth_bytes_per_s``, ``message_bytes``, ``between``), of a pair (``pair_ns``,
            ``pair_share``, ``braid``: a file). `Costs.stage_keys` has those of a stage.

    Without any, F, I and W take 1 ns and B two.

    Raises:
        InvalidInput: an unknown key (with the nearest known one), a negative number, a fraction.

    >>> plait.Costs(f_ns=100, i_ns=100, w_ns=80, comm_ns=5)
    """

    def __init__(self, **keys: Value) -> None:
        sections: dict[str, dict[str, Value]] = {"stage": {}, "link": {}, "pair": {}}
        for key, value in keys.items():
            if key in _PAIR_KEYS:
                sections["pair"][_PAIR_KEYS[key]] = value
            elif key in ("comm_ns", "latency_ns", "bandwidth_bytes_per_s", "message_bytes", "between"):
                sections["link"][key] = value
            else:
                sections["stage"][key] = value
        self._handle = _core.parse_costs(_toml(sections), "costs")
        self._text = ", ".join(f"{key}={value!r}" for key, value in keys.items())

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Costs:
        """The costs of a TOML file, or of a run's folder.

        Raises:
            InvalidInput: what is wrong with the file, with its line.
        """
        costs = cls.__new__(cls)
        costs._handle = _core.read_costs(os.fspath(path))
        costs._text = repr(os.fspath(path))
        return costs

    @classmethod
    def parse(cls, text: str) -> Costs:
        """The costs of a text in the form of that file."""
        costs = cls.__new__(cls)
        costs._handle = _core.parse_costs(text, "costs")
        costs._text = "…"
        return costs

    @staticmethod
    def stage_keys() -> dict[str, str]:
        """The keys of a stage, and what each is."""
        return dict(_core.stage_costs())

    def __repr__(self) -> str:
        return f"plait.Costs({self._text})"


CostsLike = Union[Costs, Mapping[str, Value], str, "os.PathLike[str]", None]


def as_costs(costs: CostsLike) -> Costs:
    if costs is None:
        return Costs()
    if isinstance(costs, Costs):
        return costs
    if isinstance(costs, Mapping):
        return Costs(**costs)
    return Costs.read(costs)


def _toml(sections: Mapping[str, Mapping[str, Value]]) -> str:
    """The text that the reader of cost files reads: it alone decides what a cost may be."""
    lines = []
    for section, keys in sections.items():
        if keys:
            lines.append(f"[{section}]")
        lines += [f"{json.dumps(key)} = {_toml_value(key, value)}" for key, value in keys.items()]
    return "\n".join(lines) + "\n"


def _toml_value(key: str, value: object) -> str:
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, (int, float, str)):
        return json.dumps(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(k)} = {_toml_value(k, v)}" for k, v in value.items()) + "}"
    if hasattr(value, "tolist"):  # a number or an array of NumPy
        return _toml_value(key, value.tolist())
    if isinstance(value, Sequence):
        return "[" + ", ".join(_toml_value(key, one) for one in value) + "]"
    raise InvalidInput(f"found {type(value).__name__}, needed a number or a list of numbers", argument=key)
