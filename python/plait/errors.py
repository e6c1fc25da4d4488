"""What plait raises: one class for each kind of error, all of them `plait.Error`.

Each also is the class of Python's own that one would expect, so that ``except ValueError`` and
``except OSError`` catch what they should.
"""

from __future__ import annotations

import dataclasses

__all__ = ["CheckFailed", "Error", "FileProblem", "Finding", "InvalidInput", "Note", "NotBuilt"]


class Error(Exception):
    """The base of all.

    Attributes:
        message: what was found and what was needed; lower case, no full stop.
        where: file:line, an argument's name, a cell; empty if the message says it.
    """

    def __init__(self, message: str, where: str = "") -> None:
        super().__init__(f"{where}: {message}" if where else message)
        self.message = message
        self.where = where


class InvalidInput(Error, ValueError):
    """A file, a text or an argument is wrong."""


class NotBuilt(Error, NotImplementedError):
    """Asked for something that this version does not have."""


class FileProblem(Error, OSError):
    """A file could not be written."""


@dataclasses.dataclass(frozen=True)
class Note:
    """The other party of a violation.

    Attributes:
        rank: -1 if it is of no rank.
        position: index in the rank's list as ``Schedule.actions`` counts; -1 if it is of no action.
        action: the text of the action there, as in ``3SEND_F1``; empty if there is none.
        message: how it takes part.
    """

    rank: int
    position: int
    action: str
    message: str


@dataclasses.dataclass(frozen=True)
class Finding:
    """One violation of one rule.

    Attributes:
        rule: the rule's id (``plait.rules()`` lists them), as in "deadlock".
        rank, position, action: where; see `Note`.
        message: what was found and what was needed.
        notes: the other parties.
        matching: of a step that does not end, how messages are matched there: "edge", "pair" or
            "rank"; otherwise None.
    """

    rule: str
    rank: int
    position: int
    action: str
    message: str
    notes: tuple[Note, ...] = ()
    matching: str | None = None

    def __str__(self) -> str:
        place = f"rank {self.rank}" if self.rank >= 0 else ""
        place += f" position {self.position}" if self.position >= 0 else ""
        lines = [": ".join(part for part in (self.rule, place, self.message) if part)]
        for note in self.notes:
            at = f"rank {note.rank} position {note.position}: " if note.position >= 0 else ""
            lines.append(f"note: {at}{note.message}")
        return "\n".join(lines)


class CheckFailed(Error):
    """A schedule breaks rules.

    Attributes:
        findings: every violation, in the order of the rules.
    """

    def __init__(self, message: str, where: str = "", findings: tuple[Finding, ...] = ()) -> None:
        super().__init__(message, where)
        self.findings = findings

    @property
    def rank(self) -> int:
        """Of the first finding; -1 if it is of no rank."""
        return self.findings[0].rank if self.findings else -1

    @property
    def position(self) -> int:
        """Of the first finding; -1 if it is of no action."""
        return self.findings[0].position if self.findings else -1

    @property
    def action(self) -> str:
        """Of the first finding, as text; "" if it is of no action."""
        return self.findings[0].action if self.findings else ""

    @property
    def other(self) -> Note | None:
        """The first note of the first finding that is of another rank, or None."""
        notes = self.findings[0].notes if self.findings else ()
        return next((note for note in notes if note.rank not in (-1, self.rank)), None)
