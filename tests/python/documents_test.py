"""Pictures and commands in the documents are what the command prints. Distances from the bound at 16 ranks are left to the nightly."""

import functools
import json
import pathlib
import re
import shlex
import subprocess
import tempfile
import unittest

import command


def plait(*arguments: str) -> str:
    return subprocess.run([command.PLAIT, *arguments], cwd=command.ROOT, capture_output=True, text=True, check=False).stdout


class Documents(unittest.TestCase):
    def test_the_readme_shows_what_is_printed(self) -> None:
        readme = (command.ROOT / "README.md").read_text()
        self.assertIn(plait("show", "dualpipe-v", "--ranks", "4", "--microbatches", "10"), readme)
        simulated = ["simulate", "dualpipe-v", "--ranks", "4", "--microbatches", "10"]
        self.assertIn("$ plait " + " ".join(simulated) + "\n" + plait(*simulated), readme)
        self.assertIn("$ plait check examples/hangs.csv\n" + plait("check", "examples/hangs.csv"), readme)

    def test_pictures_are_those_drawn(self) -> None:
        readme = (command.ROOT / "README.md").read_text()
        drawn = re.findall(r"`plait (simulate [^`]*) --svg (docs/pictures/[^`]*)`", readme)
        self.assertEqual(len(drawn), 1)
        for arguments, picture in drawn:
            with tempfile.TemporaryDirectory() as folder:
                plait(*arguments.split(), "--svg", f"{folder}/picture.svg")
                self.assertEqual((command.ROOT / picture).read_text(), pathlib.Path(folder, "picture.svg").read_text())

    def test_prices_are_those_printed(self) -> None:
        blocks = (command.ROOT / "docs/simulate.md").read_text().split("```")[1::2]
        shown = re.findall(r"^\$ plait (?!compare --measure)([^\n]*)\n((?:(?!\$ ).*\n)*)", "".join(blocks), re.M)  # what is measured differs
        self.assertEqual(len(shown), 9)
        for arguments, output in shown:
            self.assertTrue(plait(*arguments.split()).startswith(output.rstrip("\n")), arguments)

    def test_distances_from_the_bound_are_those_printed(self) -> None:
        document = (command.ROOT / "docs/schedules.md").read_text()
        costs = re.search(r"^plait compare .*?(--f .*?) --memory", document, re.M).group(1).split()
        head, *rows = re.search(r"^\| P \| M \|.*\n\|[-|]*\n(?:\| \d.*\n)+", document, re.M).group(0).splitlines()
        columns = re.findall(r"`([a-z-]+)`, ([^ |]+)", head)
        self.assertEqual(len(columns), 6)
        compare = functools.cache(lambda *arguments: json.loads(plait("compare", *arguments, "--json")))
        for row in rows[1:]:
            ranks, microbatches, *shown = [cell.strip() for cell in row.strip("|").split("|")]
            if int(ranks) > 8 and not command.NIGHTLY:
                continue
            for (schedule, memory), distance in zip(columns, shown, strict=True):
                p = int(ranks)
                cap = {"2P-1": 2 * p - 1, "P": p, "3P/4": 3 * p // 4, "P/2+1": p // 2 + 1}[memory]
                shape = ["--ranks", ranks, "--microbatches", microbatches]
                priced = compare(*shape, *costs, "--memory", str(cap))
                price = next(one for one in priced["schedules"] if one["schedule"] == schedule)
                above = 100 * (price["makespan_ns"] - price["bound_ns"]) / price["bound_ns"]
                self.assertEqual(f"{above:.1f}", distance, f"{schedule} P {ranks} M {microbatches} memory {cap}")

    def test_commands_of_the_readme_exist(self) -> None:
        readme = (command.ROOT / "README.md").read_text()
        blocks = "".join(readme.split("```")[1::2])
        used = set(re.findall(r"^plait (\w+)", blocks, re.M))
        self.assertGreaterEqual(used, {"list", "make", "check", "train", "sample"})
        for name in used:
            self.assertIn(name, plait("--help"))

    def test_what_to_try_after_make_train_works(self) -> None:
        shown = re.findall(r"'(\$\(BUILD\)/bin/plait [^']*)'", (command.ROOT / "Makefile").read_text())
        self.assertEqual(len(shown), 3)
        job = "examples/bible.toml"
        printed = "\n".join("  " + line.replace("$(BUILD)", "build/release").replace("$(JOB)", job) for line in shown)
        self.assertIn(f"try next:\n{printed}\n", (command.ROOT / "README.md").read_text())
        lines = [re.sub(r" {2,}\(.*\)$", "", line).removeprefix("$(BUILD)/bin/plait ") for line in shown]
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, "examples").symlink_to(command.ROOT / "examples")
            pathlib.Path(folder, "data").mkdir()
            pathlib.Path(folder, "data/kjv.txt").write_bytes((command.ROOT / "data/kjv.txt").read_bytes()[:50000])
            for line in [f"train {job} --steps 4 --set optimizer.warmup_steps=1", *(line.replace("$(JOB)", job) for line in lines)]:
                if line.startswith("sample"):
                    line += " --tokens 8"
                if line.startswith("compare"):
                    line = line.replace("--steps 5", "--steps 1 --rounds 1")
                result = subprocess.run([command.PLAIT, *shlex.split(line)], cwd=folder, capture_output=True, check=False)
                self.assertEqual(result.returncode, 0, f"{line}: {result.stderr}")

    def test_links_lead_somewhere(self) -> None:
        for document in [command.ROOT / "README.md", command.ROOT / "CONTRIBUTING.md", *(command.ROOT / "docs").glob("*.md")]:
            for link in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
                self.assertTrue((document.parent / link).exists(), f"{document.name}: {link}")

    def test_contributing_is_short(self) -> None:
        self.assertLessEqual(len((command.ROOT / "CONTRIBUTING.md").read_text().splitlines()), 60)


if __name__ == "__main__":
    unittest.main()
