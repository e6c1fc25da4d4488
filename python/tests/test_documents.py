"""The Python that stands in README.md and docs/python.md runs."""

import os
import pathlib
import re
import tempfile
import unittest
import unittest.mock

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Documents(unittest.TestCase):
    def test_examples_run(self) -> None:
        for document in ("README.md", "docs/python.md"):
            blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / document).read_text(), re.M | re.S)
            self.assertEqual(len(blocks), 1, document)
            before = os.getcwd()
            with tempfile.TemporaryDirectory() as folder, unittest.mock.patch("webbrowser.open") as opened:
                os.chdir(folder)
                try:
                    exec(compile(blocks[0], document, "exec"), {})
                finally:
                    os.chdir(before)
                self.assertEqual(opened.call_count, 1 if "view()" in blocks[0] else 0)



if __name__ == "__main__":
    unittest.main()
