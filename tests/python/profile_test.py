"""plait profile: costs from a run, what they forecast beside what was measured, and wrong input."""

import json
import re
import subprocess
import tomllib
import unittest

import command


class Profile(command.CommandTest):
    def profile(self, *arguments: str):
        return self.plait("profile", "job.toml", "--ranks", "2", "--steps", "5", *arguments)

    def test_costs_that_simulate_reads_from_the_file_and_from_its_folder(self) -> None:
        result = self.profile("--out", "costs.toml")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        costs = tomllib.loads((self.folder / "costs.toml").read_text())
        for key in ("f_ns", "i_ns", "w_ns", "b_ns"):
            self.assertEqual(len(costs["stage"][key]), 4)
            self.assertGreater(min(costs["stage"][key]), 0)
        self.assertGreaterEqual(costs["link"]["comm_ns"], 0)
        simulated = [self.plait("simulate", "zbv", "--ranks", "2", "--microbatches", "4", "--costs", path, "--json")
                     for path in ("costs.toml", ".")]
        self.assertGreater(json.loads(simulated[0].stdout)["makespan_ns"], sum(costs["stage"]["f_ns"]))
        self.assertEqual(simulated[0].stdout, simulated[1].stdout)
        self.assertEqual(self.files(), {"job.toml", "text.txt", "costs.toml"})

    def test_a_run_leaves_its_costs(self) -> None:
        self.assertEqual(self.train("--ranks", "2", "--steps", "5").returncode, 0)
        result = self.plait("simulate", "zbv", "--ranks", "2", "--microbatches", "4", "--costs", "runs/job", "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        price = json.loads(result.stdout)
        self.assertGreater(min(price["peak_bytes"]), 0)
        costs = tomllib.loads((self.folder / "runs/job/costs.toml").read_text())
        self.assertGreater(price["makespan_ns"], sum(costs["stage"]["f_ns"]))
        weights = (self.folder / "runs/job/model/model.safetensors").stat().st_size
        for key in ("parameter_bytes", "gradient_bytes"):
            self.assertAlmostEqual(sum(costs["stage"][key]) / weights, 1, delta=0.1)  # its header
        result = self.compare("--schedules", "zbv", "--costs", "runs/job", "--json")
        for row in json.loads(result.stdout)["schedules"]:
            self.assertLess(row["predicted_peak_bytes"], 1.5 * row["measured_peak_bytes"])
        # What was not run by itself is not known; a second run takes the file away.
        self.assertEqual(self.train("--ranks", "2", "--steps", "5", "--schedule", "1f1b", "--overwrite").returncode, 0)
        self.assertFalse((self.folder / "runs/job/costs.toml").exists())

    def test_pairs_and_exchanges_are_forecast_from_one_profile(self) -> None:
        mixture = {"architecture": "deepseek-v3", "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
                   "hidden_size": 32, "first_k_dense_replace": 0}
        self.write_job(model=mixture, parallel={"expert": 2, "pairs": "braid"}, run={"batch_size": 16})
        result = self.plait("compare", "--measure", "job.toml", "--ranks", "1", "--steps", "2", "--rounds", "1", "--schedules", "zbv",
                            "--link-mb-per-s", "50", "--json")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        rows = json.loads(result.stdout)["schedules"]
        self.assertEqual([(row["schedule"], row["pairs"]) for row in rows],
                         [("dualpipe-v", "braid"), ("dualpipe-v", "off"), ("dualpipe-v", "sequence"), ("zbv", "off")])
        self.assertLess(rows[0]["predicted_ns"], rows[2]["predicted_ns"])
        for row in rows:
            self.assertGreater(row["predicted_ns"], 0)
        result = self.plait("compare", "--measure", "job.toml", "--ranks", "1", "--schedules", "1f1b")
        self.assertEqual(result.returncode, 2)
        self.assertIn("it has 1 stages, the profile 2: where rows are exchanged they must be the same", result.stderr)

    def compare(self, *arguments: str):
        return self.plait("compare", "--measure", "job.toml", "--ranks", "2", "--steps", "2", "--rounds", "2", *arguments)

    def test_forecasts_stand_beside_what_happens(self) -> None:
        result = self.compare("--schedules", "zbv,1f1b")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        rows = re.findall(r"^([a-z0-9-]+) +([\d.]+) ms +([\d.]+) ms +([+-][\d.]+) % +([\d.]+) … +([\d.]+) +([\d.]+) +([\d.]+) +[+-][\d.]+ %$", result.stdout, re.M)
        self.assertEqual([row[0] for row in rows], ["dualpipe-v", "zbv", "1f1b"])
        for _, predicted, measured, off, _, _, predicted_peak, measured_peak in rows:
            self.assertAlmostEqual(100 * (float(predicted) / float(measured) - 1), float(off), delta=2)  # rounded
            self.assertAlmostEqual(float(predicted_peak) / float(measured_peak), 1, delta=0.25)
        self.assertEqual(self.files(), {"job.toml", "text.txt"})

    def test_given_costs_are_forecast_with_and_each_round_is_measured(self) -> None:
        (self.folder / "costs.toml").write_text("[stage]\nf_ns = 1000000\ni_ns = 1000000\nw_ns = 1000000\n")
        result = self.compare("--schedules", "zbv", "--costs", "costs.toml", "--json", "--microbatches", "4")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        zbv = json.loads(result.stdout)["schedules"][1]
        self.assertEqual(zbv["schedule"], "zbv")
        self.assertEqual(len(zbv["span_ns"]), 4)
        self.assertEqual(zbv["measured_ns"], sum(zbv["span_ns"]) // 4)
        simulated = self.plait("simulate", "zbv", "--ranks", "2", "--microbatches", "4", "--costs", "costs.toml", "--json")
        self.assertEqual(zbv["predicted_ns"], json.loads(simulated.stdout)["makespan_ns"])

    def test_what_cannot_be_compared_is_said(self) -> None:
        for arguments, needed in ((("--schedules", "absent"), "absent"), (("--schedules", "dualpipe"), "keeps 2 copies"),
                                  (("--memory", "4"), "--memory"),
                                  (("--costs", "none.toml"), "none.toml")):
            with self.subTest(arguments):
                result = self.compare(*arguments)
                self.assertEqual(result.returncode, 2, result.stdout + result.stderr)
                self.assertIn(needed, result.stderr)
        result = self.plait("compare", "--microbatches", "4")
        self.assertEqual(result.returncode, 2)
        self.assertIn("--ranks", result.stderr)

    def test_standard_input_is_read_once(self) -> None:
        costs = "[stage]\nf_ns = 1000000\ni_ns = 1000000\nw_ns = 1000000\n"
        compare = (command.PLAIT, "compare", "--measure", "job.toml", "--ranks", "2", "--steps", "1", "--rounds", "1", "--schedules", "zbv", "--json")
        predicted = []
        for file in ("-", "costs.toml"):
            (self.folder / "costs.toml").write_text(costs)
            result = subprocess.run([*compare, "--costs", file], cwd=self.folder, input=costs, capture_output=True, text=True, check=False,
                                    timeout=120)
            self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
            predicted.append([one["predicted_ns"] for one in json.loads(result.stdout)["schedules"]])
        self.assertEqual(predicted[0], predicted[1])
        result = subprocess.run([command.PLAIT, "compare", "--measure", "-", "--costs", "-"], cwd=self.folder, input=costs, capture_output=True,
                                text=True, check=False, timeout=120)
        self.assertEqual(result.returncode, 2)
        self.assertIn("-: standard input was read as the cost file already, needed a file for the job", result.stderr)

    def test_several_processes_of_a_launcher_are_refused(self) -> None:
        launcher = {"PMI_RANK": "1", "PMI_SIZE": "2"}
        for arguments in (("profile", "job.toml"), ("compare", "--measure", "job.toml")):
            with self.subTest(arguments):
                result = self.plait(*arguments, env=launcher)
                self.assertEqual(result.returncode, 2, result.stdout + result.stderr)
                self.assertRegex(result.stderr, r"\Aplait (profile|compare): error: .*started 2 processes \(PMI_RANK is '1', PMI_SIZE is '2'\), .*\n\Z")

    def refused(self, code: int, needed: str, *arguments: str) -> None:
        result = self.profile(*arguments)
        self.assertEqual(result.returncode, code, result.stdout + result.stderr)
        self.assertIn(needed, result.stderr)
        self.assertFalse((self.folder / "costs.toml").exists())

    def test_what_it_cannot_fit_is_said(self) -> None:
        self.refused(2, "stage 0 never ran I by itself", "--schedule", "1f1b")
        self.refused(2, "a cost file has no place for segments that exchange rows, nor for reductions", "--set", "parallel.data=2", "--set", "run.batch_size=8")
        self.refused(2, "absent", "--schedule", "absent")
        self.refused(2, "--steps", "--steps", "0")
        self.refused(1, "cannot write", "--out", "none/costs.toml")


if __name__ == "__main__":
    unittest.main()
