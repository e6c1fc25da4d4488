"""The example notebook runs, and what it shows is what stands in docs.

python python/tests/test_notebook.py --write runs it and keeps what it shows.
"""

import pathlib
import sys
import unittest

import nbclient
import nbformat

NOTEBOOK = pathlib.Path(__file__).resolve().parents[2] / "docs/schedules.ipynb"


def run() -> nbformat.NotebookNode:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"]}
    return notebook


def shown(notebook: nbformat.NotebookNode) -> list[object]:
    return [[dict(output) for output in cell.get("outputs", [])] for cell in notebook.cells]


class Notebook(unittest.TestCase):
    def test_it_shows_what_it_holds(self) -> None:
        self.maxDiff = None
        stored = nbformat.read(NOTEBOOK, as_version=4)
        ran = run()
        self.assertGreaterEqual(sum(map(bool, shown(ran))), 6)
        for cell, before, after in zip(ran.cells, shown(stored), shown(ran), strict=True):
            self.assertEqual(before, after, cell.source)


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        nbformat.write(run(), NOTEBOOK)
    else:
        unittest.main()
