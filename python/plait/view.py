"""The page that shows schedules and timelines."""

from __future__ import annotations

import os
import pathlib
import tempfile
import webbrowser

from plait import _core
from plait.errors import InvalidInput
from plait.schedule import Schedule
from plait.timeline import Timeline

__all__ = ["view"]


def view(
    *shown: Schedule | Timeline, path: str | os.PathLike[str] | None = None, browser: bool = True
) -> pathlib.Path:
    """Writes a page that shows one schedule or timeline, or two above each other, and opens it.

    Args:
        shown: a schedule is drawn with F = I = W = 1 and B = 2.
        path: of the page; in a new folder for temporary files unless given.
        browser: open it.

    Returns:
        The page's path: one file of HTML that needs no other.

    Raises:
        InvalidInput: nothing to show, or more than two.
        CheckFailed: a schedule that breaks rules.
    """
    if not 1 <= len(shown) <= 2:
        raise InvalidInput(f"found {len(shown)} to show, needed one or two")
    rows = []
    for one in shown:
        timeline = one.timeline() if isinstance(one, Schedule) else one
        rows.append((timeline.title, timeline.in_units, timeline._handle))
    page = pathlib.Path(path) if path is not None else pathlib.Path(tempfile.mkdtemp(), "plait.html")
    _core.write_file(os.fspath(page), _core.view_page(rows))
    if browser:
        webbrowser.open(page.absolute().as_uri())
    return page
