"""What plait raises: one class for each kind of error, all of them `plait.Error`.

Each also is the class of Python's own that one would expect, so that ``except ValueError`` and
``except OSError`` catch what they should.
"""

from __future__ import annotations

import dataclasses
from typing import Any

__all__ = ["CheckFailed", "Error", "FileProblem", "Finding", "InvalidInput", "Note", "NotBuilt"]


class Error(Exception):
    """The base of all. What of its fields does not apply is "", 0 of lines and columns, -1 of numbers.

    Attributes:
        message: what was found and what was needed; lower case, no full stop.
        where: file:line, an argument's name, a cell; empty if the message says it.
        argument: of the function that was called.
        file: or what stands for it: "text", a schedule's name.
        line, column: of the file, from 1; columns are bytes.
        key: of a TOML file or a line of JSON; of a document of JSON the path to it, as in "/plait/step".
        rank, position, action: in a schedule; see `Note`.
        peer: the rank at the other end of a message.
    """

    def __init__(
        self,
        message: str,
        where: str = "",
        *,
        argument: str = "",
        file: str = "",
        line: int = 0,
        column: int = 0,
        key: str = "",
        rank: int = -1,
        position: int = -1,
        action: str = "",
        peer: int = -1,
    ) -> None:
        where = where or argument
        super().__init__(f"{where}: {message}" if where else message)
        self.message = message
        self.where = where
        self.argument = argument
        self.file = file
        self.line = line
        self.column = column
        self.key = key
        self.rank = rank
        self.position = position
        self.action = action
        self.peer = peer


class InvalidInput(Error, ValueError):
    """A file, a text or an argument is wrong."""


class NotBuilt(Error, NotImplementedError):
    """Asked for something that this version does not have."""


class FileProblem(Error, OSError):
    """A file could not be written: `file`, which is `filename` of OSError too."""

    def __init__(self, message: str, where: str = "", *, file: str = "", **place: Any) -> None:
        super().__init__(message, where, file=file, **place)
        self.filename = file or None


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
    """A schedule breaks rules. `rank`, `position` and `action` are the first finding's.

    Attributes:
        findings: every violation, in the order of the rules.
    """

    def __init__(self, message: str, where: str = "", findings: tuple[Finding, ...] = (), **place: Any) -> None:
        if findings:
            first = findings[0]
            place.update(rank=first.rank, position=first.position, action=first.action)
        super().__init__(message, where, **place)
        self.findings = findings

    @property
    def other(self) -> Note | None:
        """The first note of the first finding that is of another rank, or None."""
        notes = self.findings[0].notes if self.findings else ()
        return next((note for note in notes if note.rank not in (-1, self.rank)), None)
