"""simulate and compare: their fields, their files, and one clear error for wrong input."""

import json
import pathlib
import subprocess
import tempfile
import unittest

import command


def plait(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([command.PLAIT, *arguments], cwd=command.ROOT, capture_output=True, text=True, check=False)


SHAPE = ("--ranks", "4", "--microbatches", "8")


class Price(unittest.TestCase):
    def refused(self, code: int, needed: str, *arguments: str) -> None:
        result = plait(*arguments)
        self.assertEqual(result.returncode, code, result.stdout + result.stderr)
        self.assertIn(needed, result.stderr)
        self.assertEqual(result.stdout, "")

    def test_json_has_the_documented_fields(self) -> None:
        price = json.loads(plait("simulate", "1f1b", *SHAPE, "--f", "3", "--i", "4", "--w", "1", "--json").stdout)
        self.assertEqual(
            list(price),
            "schedule ranks microbatches chunks makespan_ns span_ns bound_ns bound idle_ns idle_share "
            "peak_activations activation_slots pair_coverage exposed_comm_ns".split(),
        )
        self.assertEqual(price["idle_ns"], [3 * (3 + 5)] * 4)
        self.assertEqual(price["peak_activations"], [4, 3, 2, 1])
        self.assertLessEqual(price["bound_ns"], price["makespan_ns"])

    def test_bytes_take_the_place_of_activations(self) -> None:
        price = json.loads(plait("simulate", "1f1b", *SHAPE, "--activation-bytes", "10", "--json").stdout)
        self.assertEqual(price["peak_bytes"], [40, 30, 20, 10])
        self.assertNotIn("peak_activations", price)

    def test_recomputation_costs_time_and_saves_bytes(self) -> None:
        costs = ("--f", "10", "--i", "10", "--w", "10")
        kept = json.loads(plait("simulate", "1f1b", *SHAPE, *costs, "--activation-bytes", "10", "--json").stdout)
        again = ("--activation-bytes", "4", "--recomputed-bytes", "6", "--recompute-ns", "8")
        made = json.loads(plait("simulate", "1f1b", *SHAPE, *costs, *again, "--json").stdout)
        self.assertGreater(made["makespan_ns"], kept["makespan_ns"])
        self.assertEqual(made["peak_bytes"], [4 * ranks + 6 for ranks in (4, 3, 2, 1)])
        # Of a rank's share: with two stages a rank half of it each.
        halves = ("--f", "5", "--i", "5", "--w", "5", "--activation-bytes", "2", "--recomputed-bytes", "3", "--recompute-ns", "4")
        compared = json.loads(plait("compare", *SHAPE, *costs, *again, "--json").stdout)["schedules"]
        for price in compared:
            self.assertLessEqual(price["bound_ns"], price["makespan_ns"])
            if price["schedule"] in ("1f1b", "zbv"):
                stages = halves if price["chunks"] == 2 else (*costs, *again)
                self.assertEqual(json.loads(plait("simulate", price["schedule"], *SHAPE, *stages, "--json").stdout), price)

    def test_comparison_is_sorted_and_keeps_the_cap(self) -> None:
        result = json.loads(plait("compare", *SHAPE, "--memory", "4", "--json").stdout)
        makespans = [price["makespan_ns"] for price in result["schedules"]]
        self.assertEqual(makespans, sorted(makespans))
        for price in result["schedules"]:
            self.assertLessEqual(max(price["peak_activations"]), 4 * price["chunks"])
        self.assertIn("gpipe", [one["schedule"] for one in result["left_out"]])

    def test_the_best_residency_and_lookahead_under_a_cap(self) -> None:
        """One call tries all of them; each row costs what its own options cost; a cap below the best keeps it out."""
        of_rank = {"--f": 120, "--i": 120, "--w": 120, "--activation-bytes": 400, "--parameter-bytes": 4000, "--gradient-bytes": 4000}
        link = ("--replicas", "4", "--collective-latency-ns", "2", "--collective-bandwidth-bytes-per-s", "50000000000")
        flags = [word for flag, value in of_rank.items() for word in (flag, str(value))]
        search = ("compare", *SHAPE, "--chunks", "4", *flags, *link, "--lower", "--max-active-stages", "any", "--unshard-lookahead", "any",
                  "--json")
        free = json.loads(plait(*search).stdout)
        self.assertIsNone(free["kept_out_by_memory"])
        for price in free["schedules"]:
            options = ("--lower", "--max-active-stages", str(price["max_active_stages"]), "--unshard-lookahead", price["unshard_lookahead"])
            if price["schedule"] in ("zbv", "1f1b", "interleaved-zero-bubble"):
                stage = [word for flag, value in of_rank.items() for word in (flag, str(value // price["chunks"]))]
                shape = (*SHAPE, "--chunks", "4") if price["chunks"] == 4 else SHAPE
                alone = json.loads(plait("simulate", price["schedule"], *shape, *stage, *link, *options, "--json").stdout)
                self.assertEqual({**price, **alone}, price)
        best = free["schedules"][0]
        cap = max(best["peak_bytes"]) - 1
        capped = json.loads(plait(*search, "--memory", f"{cap}B").stdout)
        self.assertEqual(capped["kept_out_by_memory"], best)
        self.assertGreater(capped["tried"], len(capped["schedules"]))
        for price in capped["schedules"]:
            self.assertLessEqual(max(price["peak_bytes"]), cap)
        said = plait(*search[:-1], "--memory", f"{cap}B").stdout
        self.assertIn(f"\nmemory binds: {best['schedule']} --max-active-stages {best['max_active_stages']} --unshard-lookahead ", said)
        self.assertIn("\nmemory does not bind: nothing that holds more is faster\n", plait(*search[:-1], "--memory", "1GB").stdout)
        self.refused(2, "is of --lower, needed both", "compare", *SHAPE, "--max-active-stages", "any")
        self.refused(2, "found 'few', needed any or a number of at least 1", "compare", *SHAPE, "--lower", "--max-active-stages", "few")
        self.refused(2, "--max-active-stages", "simulate", "zbv", *SHAPE, "--lower", "--max-active-stages", "any")

    def test_the_exact_bound_is_no_lower(self) -> None:
        low_memory = ("compare", *SHAPE, "--memory", "2", "--json")
        bounds = {price["schedule"]: price["bound_ns"] for price in json.loads(plait(*low_memory).stdout)["schedules"]}
        exact = json.loads(plait(*low_memory, "--exact-bound").stdout)["schedules"]
        for price in exact:
            self.assertGreaterEqual(price["bound_ns"], bounds[price["schedule"]])
            self.assertLessEqual(price["bound_ns"], price["makespan_ns"])
        self.assertIn("one-rank", [price["bound"] for price in exact])
        self.refused(2, "--memory", "compare", *SHAPE, "--exact-bound")

    def test_timeline_is_a_trace(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "timeline.json"
            self.assertEqual(plait("simulate", "1f1b", *SHAPE, "--timeline", str(path)).returncode, 0)
            events = [one for one in json.loads(path.read_text())["traceEvents"] if one["ph"] == "X"]
            self.assertEqual(len(events), 4 * 8 * 2)

    def test_wrong_costs(self) -> None:
        self.refused(2, "--f-ns: found '1.5'", "simulate", "1f1b", *SHAPE, "--f", "1.5")
        self.refused(2, "w_ns is missing", "simulate", "1f1b", *SHAPE, "--f", "1", "--i", "1")
        self.refused(2, "f_ns has 2 entries, needed one for each of 4 stages", "simulate", "1f1b", *SHAPE, "--f", "1,2")
        self.refused(2, "--comm: Value -3", "simulate", "1f1b", *SHAPE, "--comm", "-3")
        self.refused(2, "need their segments", "simulate", "dualpipe-v", *SHAPE, "--pairs", "braid")
        self.refused(2, "absent.toml", "simulate", "1f1b", *SHAPE, "--costs", "absent.toml")
        self.refused(2, "--memory: found 'much'", "compare", *SHAPE, "--memory", "much")
        self.refused(2, "needs costs in bytes", "compare", *SHAPE, "--memory", "64GiB")
        self.refused(2, "is a list by stage", "compare", *SHAPE, "--f", "1,2,3,4", "--i", "1", "--w", "1")

    def test_a_schedule_that_breaks_a_rule(self) -> None:
        self.refused(1, "breaks a rule", "simulate", "examples/hangs.csv")


if __name__ == "__main__":
    unittest.main()
