"""Every command that takes a schedule takes files of all three forms; flags say what a CSV does not."""

import csv
import hashlib
import subprocess
import unittest

import command


class ScheduleFiles(command.CommandTest):
    def made(self, *arguments: str) -> str:
        result = self.plait("make", *arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def test_every_form_in_every_command(self) -> None:
        for name in ("dualpipe-v", "dualpipe", "chimera"):
            csv = self.made(name, "--ranks", "4", "--microbatches", "8")
            drawn = self.plait("show", name, "--ranks", "4", "--microbatches", "8").stdout
            for form in ("csv", "plait", "json"):
                (self.folder / "schedule").write_text(self.made(name, "--ranks", "4", "--microbatches", "8", "--format", form))
                with self.subTest(schedule=name, form=form):
                    self.assertEqual(self.made("schedule"), csv)
                    self.assertEqual(self.plait("check", "schedule").returncode, 0)
                    self.assertEqual(self.plait("show", "schedule").stdout, drawn)

    def test_flags_catch_a_missing_last_microbatch(self) -> None:
        (self.folder / "nine.csv").write_text(self.made("dualpipe-v", "--ranks", "4", "--microbatches", "9"))
        self.assertEqual(self.plait("check", "nine.csv").returncode, 0)
        result = self.plait("check", "nine.csv", "--microbatches", "10")
        self.assertEqual(result.returncode, 1)
        self.assertIn("0F9 is missing", result.stdout)

    def test_flags_catch_a_missing_row(self) -> None:
        lines = self.made("1f1b", "--ranks", "4", "--microbatches", "8").splitlines(keepends=True)
        (self.folder / "three.csv").write_text("".join(lines[:3]))
        for flags, message in ((("--ranks", "4"), "the file has 3 rows, --ranks needs 4"),
                               (("--placement", "0 1 2 3"), "a rank below 3")):
            result = self.plait("check", "three.csv", *flags)
            self.assertEqual(result.returncode, 2)
            self.assertIn(message, result.stderr)
        result = self.plait("check", "three.csv", "--stages", "4")
        self.assertEqual(result.returncode, 1)
        self.assertIn("stage 3 has no forward, needed one of each of 8 micro-batches", result.stdout)

    def test_placement_by_name_or_table(self) -> None:
        (self.folder / "v.csv").write_text(self.made("zbv", "--ranks", "2", "--microbatches", "4"))
        (self.folder / "two.csv").write_text(self.made("chimera", "--ranks", "2", "--microbatches", "4"))
        for file, placement, code in (("v.csv", "v", 0), ("v.csv", "0 1 1 0", 0), ("v.csv", "loop", 1), ("v.csv", "w", 2),
                                      ("two.csv", "bidirectional", 0), ("two.csv", "0 1 / 1 0", 0), ("two.csv", "loop", 1)):
            with self.subTest(file=file, placement=placement):
                self.assertEqual(self.plait("check", file, "--placement", placement).returncode, code)

    def test_messages_are_proven_when_asked_for(self) -> None:
        shape = ("1f1b", "--ranks", "4", "--microbatches", "8")
        for flags, proof in (((), "no circle of waits, messages not counted"),
                             (("--messages",), "no deadlock per edge, per pair or per rank"),
                             (("--matching", "pair"), "no deadlock per pair, without")):
            result = self.plait("check", *shape, *flags)
            self.assertEqual(result.returncode, 0, result.stdout)
            self.assertIn(proof, result.stdout)
            self.assertIn(" 48 messages" if flags else " 0 messages", result.stdout)

    def test_from_standard_input_pipes_and_substitutions(self) -> None:
        text = "0F0,0B0\n"
        for command_line in ('"$0" check -', "cat | \"$0\" check /dev/stdin", '"$0" check <(cat)', '"$0" simulate -',
                             '"$0" view - --out page.html', '"$0" opt - --passes split-backward', '"$0" make -', '"$0" show -'):
            with self.subTest(command_line):
                result = subprocess.run(["bash", "-c", command_line, command.PLAIT], cwd=self.folder, input=text, text=True,
                                        capture_output=True, check=False, timeout=20)
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertEqual(result.stderr, "")

    def test_costs_from_a_pipe(self) -> None:
        costs = "[stage]\nf_ns = 10\ni_ns = 10\nw_ns = 10\n"
        for file in ("-", "/dev/stdin", "<(cat)"):
            with self.subTest(file):
                result = subprocess.run(["bash", "-c", f'"$0" simulate gpipe --ranks 1 --microbatches 2 --costs {file}', command.PLAIT],
                                        input=costs, text=True, capture_output=True, check=False, timeout=20)
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertIn("makespan 60 ns", result.stdout)

    def test_torchs_names(self) -> None:
        for name, ours in (("1F1B", "1f1b"), ("GPipe", "gpipe"), ("Interleaved1F1B", "interleaved-1f1b"), ("LoopedBFS", "looped-bfs"),
                           ("InterleavedZeroBubble", "interleaved-zero-bubble"), ("ZBVZeroBubble", "zbv"), ("dualpipev", "dualpipe-v")):
            with self.subTest(name):
                shape = ("--ranks", "4", "--microbatches", "8")
                self.assertEqual(self.made(name, *shape), self.made(ours, *shape))
                self.assertEqual(self.plait("check", name, *shape).returncode, 0)

    def test_tables_as_spreadsheets_write_them(self) -> None:
        plain = self.made("1f1b", "--ranks", "2", "--microbatches", "4")
        rows = [line.split(",") for line in plain.splitlines()]
        tables = {
            "quoted": "\n".join(",".join(f'"{cell}"' for cell in row) for row in rows),
            "labelled": "\n".join(",".join((f"rank{i}", *row)) for i, row in enumerate(rows)),
            "headed": ",".join(f"step{i}" for i in range(len(rows[0]))) + "\n" + plain,
            "marked": "\ufeff" + plain,
            "of Windows": plain.replace("\n", "\r\n"),
            "with a blank row": plain + "\r\n",
            "with semicolons": plain.replace(",", ";"),
        }
        for kind, table in tables.items():
            with self.subTest(kind):
                (self.folder / "table.csv").write_bytes(table.encode())
                result = self.plait("make", "table.csv")
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertEqual(result.stdout, plain)
                noted = kind in ("labelled", "headed", "with a blank row", "with semicolons")
                self.assertEqual("note: table.csv" in result.stderr, noted, result.stderr)

    def refused(self, *arguments: str) -> str:
        """The one error of wrong input."""
        result = self.plait(*arguments)
        self.assertEqual(result.returncode, 2, result.stdout + result.stderr)
        self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
        return result.stderr

    def test_what_a_file_is_not(self) -> None:
        lfs = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
        for name, content in (("lfs.csv", lfs), ("lfs.json", lfs), ("lfs.toml", lfs)):
            (self.folder / name).write_text(content)
        self.assertIn("lfs.csv: is a git-lfs pointer", self.refused("check", "lfs.csv"))
        self.assertIn("lfs.json: is a git-lfs pointer", self.refused("view", "lfs.json", "--out", "p.html"))
        self.assertIn("lfs.toml: is a git-lfs pointer",
                      self.refused("simulate", "1f1b", "--ranks", "2", "--microbatches", "4", "--costs", "lfs.toml"))
        (self.folder / "utf16.csv").write_bytes("0F0,0B0\n".encode("utf-16"))
        self.assertIn("found UTF-16", self.refused("check", "utf16.csv"))
        (self.folder / "old.csv").write_text("0F0,0F1,0B0,0W0,0B1,0W1\n1F0,1B0,1F1,1W0,1B1,1W1\n")
        self.assertIn("letters are those of torch 2.5", self.refused("check", "old.csv"))

    def test_what_is_no_file_and_no_name(self) -> None:
        for arguments in (("check", "nothere.csv"), ("simulate", "nothere.csv"), ("show", "nothere.csv"), ("make", "nothere.csv"),
                          ("view", "nothere.csv", "--out", "page.html"), ("opt", "nothere.csv", "--passes", "pair")):
            with self.subTest(arguments):
                self.assertIn("'nothere.csv' is neither a file nor a schedule's name", self.refused(*arguments))
        (self.folder / "1f1b").mkdir()
        (self.folder / "mine").mkdir()
        self.assertEqual(self.plait("check", "1f1b", "--ranks", "2", "--microbatches", "4").returncode, 0)
        self.assertIn("mine: is a folder", self.refused("check", "mine"))

    def test_flags_that_do_not_apply(self) -> None:
        (self.folder / "file.csv").write_text(self.made("1f1b", "--ranks", "2", "--microbatches", "4"))
        name = ("1f1b", "--ranks", "2", "--microbatches", "4")
        self.plait("simulate", *name, "--timeline", "timeline.json")
        for flag, *arguments in (
                ("--stages", "check", *name, "--stages", "2"), ("--placement", "check", *name, "--placement", "v"),
                ("--stages", "make", *name, "--stages", "2"), ("--stages", "simulate", *name, "--stages", "2"),
                ("--stages", "show", *name, "--stages", "2"), ("--stages", "opt", *name, "--passes", "pair", "--stages", "2"),
                ("--chunks", "check", "file.csv", "--chunks", "1"), ("--any-m", "check", "file.csv", "--any-m"),
                ("--stages", "view", *name, "--stages", "2", "--out", "p.html"),
                ("--chunks", "view", "file.csv", "--chunks", "1", "--out", "p.html"),
                ("--ranks", "view", "timeline.json", "--ranks", "2", "--out", "p.html"),
                ("--passes", "opt", *name, "--passes", "drop-idle", "--f", "1", "--i", "1", "--w", "1"),
                ("--max-activations", "opt", *name, "--passes", "pair", "--max-activations", "4"),
                ("--pair-ns", "simulate", *name, "--pairs", "sequence", "--pair-ns", "5"),
                ("--width", "braid", "show", "--width", "100")):
            with self.subTest(arguments):
                self.assertIn(f"error: {flag}", self.refused(*arguments))
        # Of two, each flag is of one.
        result = self.plait("view", "file.csv", "zbv", "--ranks", "2", "--microbatches", "4", "--chunks", "2", "--stages", "2",
                            "--out", "p.html")
        self.assertEqual(result.returncode, 0, result.stderr)

    def test_what_is_missing_as_a_whole_is_one_finding(self) -> None:
        made = self.made("1f1b", "--ranks", "4", "--microbatches", "16", "--format", "plait").splitlines()
        for kind, lines in (("computes nothing", [*made[:-1], "rank 3:"]),
                            ("has no backward at all", [" ".join(w for w in line.split(" ") if "B" not in w) for line in made])):
            with self.subTest(kind):
                (self.folder / "s.plait").write_text("\n".join(lines) + "\n")
                result = self.plait("check", "s.plait")
                self.assertEqual(result.returncode, 1)
                self.assertIn(kind, result.stdout)
                self.assertIn("\n1 violation\n", result.stdout)

    def test_torchs_last_stage_stays_unsharded(self) -> None:
        (self.folder / "t.csv").write_text("0UNSHARD,0F0,0B0\n")
        result = self.plait("check", "t.csv")
        self.assertEqual(result.returncode, 0, result.stdout)
        self.assertIn("note: rank 0: stage 0, which computes last, stays unsharded", result.stdout)

    def test_a_header_must_not_say_otherwise(self) -> None:
        (self.folder / "v.plait").write_text(self.made("zbv", "--ranks", "2", "--microbatches", "4", "--format", "plait"))
        result = self.plait("check", "v.plait", "--microbatches", "5")
        self.assertEqual(result.returncode, 2)
        self.assertIn("the file says microbatches 4, --microbatches says 5", result.stderr)


class Dialects(command.CommandTest):
    """A lowered CSV is for one torch; what torch only lowers is proven here."""

    SHAPE = ("zbv", "--ranks", "2", "--microbatches", "4")

    def lowered(self, *flags: str) -> str:
        result = self.plait("make", *self.SHAPE, "--lower", *flags)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def test_found_when_read_and_chosen_when_written(self) -> None:
        new, old = self.lowered(), self.lowered("--dialect", "torch-2.13")
        self.assertEqual(new, self.lowered("--dialect", "torch-2.15"))
        self.assertIn("WAIT_SEND_F", new)
        self.assertNotIn("WAIT", old)
        for text, name in ((new, "torch 2.15, with waits"), (old, "torch 2.13 or before, without waits")):
            (self.folder / "lowered.csv").write_text(text)
            result = self.plait("check", "lowered.csv")
            self.assertEqual(result.returncode, 0, result.stdout)
            self.assertIn(f"with communication: {name}\n", result.stdout)
            self.assertEqual(self.plait("make", "lowered.csv", "--dialect", "torch-2.13").stdout, old)
            with_waits = self.plait("make", "lowered.csv").stdout
            self.assertEqual(with_waits.count("WAIT_SEND"), new.count("WAIT_SEND"))
            self.assertEqual(self.plait("make", "lowered.csv", "--format", "plait").stdout.count("WAIT"), text.count("WAIT"))

    def test_what_is_lowered_is_torch_2_15s_to_the_byte(self) -> None:
        """Of 110 shapes and options: 98 that torch lowers, and 12 that it refuses."""
        numbers = {"--ranks": "ranks", "--microbatches": "microbatches", "--chunks": "chunks", "--max-active-stages": "max_active_stages",
                   "--unshard-lookahead": "unshard_lookahead", "--max-outstanding-sends": "max_outstanding_sends"}
        switches = {"--defer-reduce-grad-wait": "defer_reduce_grad_wait", "--defer-recv": "defer_pp_recv"}
        equal = refused = 0
        with (command.ROOT / "tests/golden/torch-2.15-lowered.csv").open(newline="") as rows:
            for row in csv.DictReader(rows):
                flags = ["--lower"]
                for flag, key in numbers.items():
                    flags += [flag, row[key].strip("()").replace(" ", "")] if row[key] else []
                flags += [flag for flag, key in switches.items() if row[key] == "True"]
                with self.subTest(row=row):
                    result = self.plait("make", row["schedule"], *flags)
                    if row["sha256"] == "ValueError":
                        self.assertEqual((result.returncode, result.stdout), (2, ""))
                        refused += 1
                        continue
                    self.assertEqual(result.returncode, 0, result.stderr)
                    made = result.stdout.encode()
                    self.assertEqual((str(len(made)), hashlib.sha256(made).hexdigest()), (row["bytes"], row["sha256"]))
                    equal += 1
        self.assertEqual((equal, refused), (98, 12))

    def test_options_reach_every_command_that_lowers(self) -> None:
        flags = ("--lower", "--max-active-stages", "2", "--unshard-lookahead", "auto", "--defer-reduce-grad-wait",
                 "--max-outstanding-sends", "min")
        for name in ("make", "check", "simulate"):
            with self.subTest(command=name):
                result = self.plait(name, *self.SHAPE, *flags)
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertIn("note: zbv: 1 outstanding send a rank is the fewest", result.stderr)

    def test_wrong_options_are_wrong_use_with_the_numbers(self) -> None:
        for flags, message in ((("--lower", "--max-active-stages", "0"), "found 0, needed a number of at least 1"),
                               (("--lower", "--unshard-lookahead", "4,1"), "found '4' for rank 0, needed a number from 1 to 3"),
                               (("--lower", "--unshard-lookahead", "1"), "found 1 numbers, needed full, auto, or one for each of 2 ranks"),
                               (("--lower", "--max-outstanding-sends", "few"), "found 'few', needed min or a number of at least 0"),
                               (("--lower", "--max-outstanding-sends", "0"), "found 0 outstanding sends a rank, needed at least 1"),
                               (("--lower", "--dialect", "torch-2.13", "--defer-reduce-grad-wait"), "torch 2.13 has none"),
                               (("--defer-recv",), "is of --lower, needed both")):
            with self.subTest(flags=flags):
                result = self.plait("make", *self.SHAPE, *flags)
                self.assertEqual((result.returncode, result.stdout), (2, ""))
                self.assertIn(message, result.stderr)


if __name__ == "__main__":
    unittest.main()
