"""Every command that takes a schedule takes files of all three forms; flags say what a CSV does not."""

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
        self.assertIn("3F0 is missing", result.stdout)

    def test_placement_by_name_or_table(self) -> None:
        (self.folder / "v.csv").write_text(self.made("zbv", "--ranks", "2", "--microbatches", "4"))
        (self.folder / "two.csv").write_text(self.made("chimera", "--ranks", "2", "--microbatches", "4"))
        for file, placement, code in (("v.csv", "v", 0), ("v.csv", "0 1 1 0", 0), ("v.csv", "loop", 1), ("v.csv", "w", 2),
                                      ("two.csv", "bidirectional", 0), ("two.csv", "0 1 / 1 0", 0), ("two.csv", "loop", 1)):
            with self.subTest(file=file, placement=placement):
                self.assertEqual(self.plait("check", file, "--placement", placement).returncode, code)

    def test_messages_are_proven_when_asked_for(self) -> None:
        shape = ("1f1b", "--ranks", "4", "--microbatches", "8")
        for flags, proof in (((), "no circle if messages were free"),
                             (("--messages",), "no deadlock per edge, per pair or per rank"),
                             (("--matching", "pair"), "no deadlock per pair, without")):
            result = self.plait("check", *shape, *flags)
            self.assertEqual(result.returncode, 0, result.stdout)
            self.assertIn(proof, result.stdout)
            self.assertIn(" 48 messages" if flags else " 0 messages", result.stdout)

    def test_a_header_must_not_say_otherwise(self) -> None:
        (self.folder / "v.plait").write_text(self.made("zbv", "--ranks", "2", "--microbatches", "4", "--format", "plait"))
        result = self.plait("check", "v.plait", "--microbatches", "5")
        self.assertEqual(result.returncode, 2)
        self.assertIn("the file says microbatches 4, --microbatches says 5", result.stderr)


if __name__ == "__main__":
    unittest.main()
