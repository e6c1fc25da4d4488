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

    def test_tests_that_are_named_exist(self) -> None:
        named = re.findall(r"`(test_\w+)\.(\w+)\.(test_\w+)`", (ROOT / "docs/coming-from-torch.md").read_text())
        self.assertGreater(len(named), 15)
        for file, group, test in named:
            text = (ROOT / "python/tests" / f"{file}.py").read_text()
            self.assertRegex(text, rf"class {group}\(unittest.TestCase\):(?:\n(?!class ).*)*?\n    def {test}\(", f"{file}.{group}.{test}")


if __name__ == "__main__":
    unittest.main()
