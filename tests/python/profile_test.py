"""plait profile: costs from a run, what they forecast beside what was measured, and wrong input."""

import json
import re
import tomllib
import unittest

import command


class Profile(command.CommandTest):
    def profile(self, *arguments: str):
        return self.plait("profile", "job.toml", "--ranks", "2", "--steps", "5", *arguments)

    def test_costs_that_simulate_reads_and_a_row_for_each_schedule(self) -> None:
        result = self.profile("--out", "costs.toml", "--measure", "zbv,1f1b")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        costs = tomllib.loads((self.folder / "costs.toml").read_text())
        for key in ("f_ns", "i_ns", "w_ns", "b_ns"):
            self.assertEqual(len(costs["stage"][key]), 4)
            self.assertGreater(min(costs["stage"][key]), 0)
        self.assertGreaterEqual(costs["link"]["comm_ns"], 0)
        rows = re.findall(r"^([a-z0-9-]+) +([\d.]+) +([\d.]+) +([+-][\d.]+) %$", result.stdout, re.M)
        self.assertEqual([row[0] for row in rows], ["dualpipe-v", "zbv", "1f1b"])
        for schedule, predicted, _, _ in rows[:2]:
            simulated = self.plait("simulate", schedule, "--ranks", "2", "--microbatches", "4", "--costs", "costs.toml", "--json")
            self.assertEqual(f"{json.loads(simulated.stdout)['makespan_ns'] / 1e6:.2f}", predicted)
        self.assertEqual(self.files(), {"job.toml", "text.txt", "costs.toml"})

    def refused(self, code: int, needed: str, *arguments: str) -> None:
        result = self.profile(*arguments)
        self.assertEqual(result.returncode, code, result.stdout + result.stderr)
        self.assertIn(needed, result.stderr)
        self.assertFalse((self.folder / "costs.toml").exists())

    def test_what_it_cannot_fit_is_said(self) -> None:
        self.refused(2, "stage 0 never ran I by itself", "--schedule", "1f1b")
        self.refused(2, "this version profiles one column of ranks", "--set", "parallel.data=2", "--set", "run.batch_size=8")
        self.refused(2, "absent", "--schedule", "absent")
        self.refused(2, "--steps", "--steps", "3")
        self.refused(1, "cannot write", "--out", "none/costs.toml")


if __name__ == "__main__":
    unittest.main()
