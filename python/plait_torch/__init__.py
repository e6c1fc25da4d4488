"""The operators that run torch modules under plait's schedules: one library for each torch minor.

`plait.pipelining` is what users import. The libraries have no CPython API, so one serves every Python, and
CPU and CUDA builds of its torch; they lie beside this file, as ``operators-2.13.so``.
"""

from __future__ import annotations

import pathlib
import re

__all__ = ["built_for", "load"]

_FOLDER = pathlib.Path(__file__).parent
_HOW = (
    "build it against the torch that is installed, with pip install . in plait's repository "
    "(PLAIT_TORCH_DIR names the folder of another torch package)"
)


def built_for() -> list[str]:
    """The torch minors that this installation has a library for, as in ["2.13"]; maybe none."""
    found = (re.fullmatch(r"operators-(\d+\.\d+)", path.stem) for path in _FOLDER.glob("operators-*.so"))
    return sorted(match[1] for match in found if match)


def load() -> None:
    """Loads the library for the torch that is imported.

    A library of another minor loads as well and dies later, in the middle of a run: so the minor is
    compared here.

    Raises:
        ImportError: there is no torch, or no library for it; says which there are and how to build one.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError("plait.pipelining needs torch, which is not installed; import plait works without") from error
    version = str(torch.__version__)
    minor = ".".join(version.split(".")[:2])
    have = built_for()
    if minor not in have:
        what = f"is built for torch {', '.join(have)}" if have else "was built without torch"
        raise ImportError(f"this plait {what}, needed torch {minor} (torch {version} is installed): {_HOW}")
    torch.ops.load_library(str(_FOLDER / f"operators-{minor}.so"))
    built = torch.ops.plait.built_for()
    if built != minor:
        raise ImportError(f"operators-{minor}.so is built for torch {built}, needed torch {minor}: {_HOW}")
