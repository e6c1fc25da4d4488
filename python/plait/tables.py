"""What plait has: schedules, placements, passes, rules."""

from __future__ import annotations

import dataclasses

from plait import _core

__all__ = ["ScheduleInfo", "action_types", "dialects", "passes", "placements", "rules", "schedules"]


@dataclasses.dataclass(frozen=True)
class ScheduleInfo:
    """A schedule that plait has by name.

    Attributes:
        name, torch_name: ours, and torch's ("" if it has none); `Schedule` takes both.
        summary, source: what it is, and where it is from.
        needs: its limits in P, V and M, as text.
        chunks: V unless another is asked for.
        any_chunks: another may be asked for.
    """

    name: str
    torch_name: str
    summary: str
    source: str
    needs: str
    chunks: int
    any_chunks: bool


def schedules() -> dict[str, ScheduleInfo]:
    """By name."""
    return {row[0]: ScheduleInfo(*row) for row in _core.schedules()}


def placements() -> dict[str, str]:
    """Names of placements, and what each is."""
    return dict(_core.placements())


def passes() -> dict[str, str]:
    """Names of passes (`Schedule.opt`), and what each does."""
    return dict(_core.passes())


def rules() -> dict[str, str]:
    """Ids of the proof's rules, and what each says."""
    return dict(_core.rules())


def dialects() -> dict[str, str]:
    """The torchs that a lowered list can be for."""
    return dict(_core.dialects())


def action_types() -> list[str]:
    """By the number that stands in arrays; "" is an idle slot."""
    return _core.action_types()
