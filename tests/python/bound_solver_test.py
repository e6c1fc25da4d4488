"""Bounds and the search beside the optimum that a solver proves: OR-tools' CP-SAT."""

import itertools
import json
import subprocess
import tempfile
import unittest

import command
from ortools.sat.python import cp_model

SECONDS = 300


def optimum(rank_of: list[int], microbatches: int, cap: int, f: int, i: int, w: int, hop: int) -> int:
    """The least makespan of all orders that hold at most `cap` stage activations a rank."""
    model = cp_model.CpModel()
    stages = range(len(rank_of))
    lengths = {"F": f, "I": i, "W": w}
    horizon = microbatches * len(rank_of) * (f + i + w + 2 * hop)
    start = {(kind, s, m): model.new_int_var(0, horizon, "") for kind in "FIW" for s in stages for m in range(microbatches)}
    span = model.new_int_var(0, horizon, "")
    on_rank: dict[int, list[cp_model.IntervalVar]] = {rank: [] for rank in rank_of}
    held: dict[int, list[cp_model.IntervalVar]] = {rank: [] for rank in rank_of}
    for (kind, s, m), at in start.items():
        on_rank[rank_of[s]].append(model.new_fixed_size_interval_var(at, lengths[kind], ""))
        if m > 0:
            model.add(at >= start[kind, s, m - 1] + lengths[kind])
        if kind == "W":
            model.add(span >= at + w)
    for s, m in itertools.product(stages, range(microbatches)):
        model.add(start["I", s, m] >= start["F", s, m] + f)
        model.add(start["W", s, m] >= start["I", s, m] + i)
        if s > 0:
            delay = hop if rank_of[s] != rank_of[s - 1] else 0
            model.add(start["F", s, m] >= start["F", s - 1, m] + f + delay)
            model.add(start["I", s - 1, m] >= start["I", s, m] + i + delay)
        life = model.new_int_var(0, horizon, "")
        held[rank_of[s]].append(model.new_interval_var(start["F", s, m], life, start["W", s, m] + w, ""))
    for rank in set(rank_of):
        model.add_no_overlap(on_rank[rank])
        model.add_cumulative(held[rank], [1] * len(held[rank]), cap)
    model.minimize(span)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = SECONDS
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 1
    status = solver.solve(model)
    assert status == cp_model.OPTIMAL, solver.status_name(status)
    return round(solver.objective_value)


def search(rank_of: list[int], microbatches: int, cap: int, f: int, i: int, w: int, hop: int) -> dict[str, int]:
    """The makespan found, and the bounds, quick and exact."""
    table = " ".join(map(str, rank_of))
    ranks = len(set(rank_of))
    shape = ["--ranks", str(ranks), "--microbatches", str(microbatches)]
    costs = [f"--{name}={value}" for name, value in zip(("f", "i", "w", "comm"), (f, i, w, hop), strict=True)]
    memory = str(cap * ranks / len(rank_of))
    values = {}
    with tempfile.TemporaryDirectory() as folder:
        for bound in ("quick", "exact"):
            run = [command.PLAIT, "search", *shape, *costs, "--memory", memory, "--placement", table, "--bound", bound,
                   "--steps", "200000", "--time", "60", "--output", f"{folder}/{bound}.plait"]
            line = subprocess.run(run, capture_output=True, text=True, check=True).stdout
            values[bound] = int(line.split("bound ")[1].split()[0])
        price = subprocess.run([command.PLAIT, "simulate", f"{folder}/exact.plait", *costs, "--json"],
                               capture_output=True, text=True, check=True)
    values["found"] = json.loads(price.stdout)["makespan_ns"]
    return values


# Placement, M, cap in stage activations, costs, and the optimum that docs and other tests name.
TABLE = [
    ([0, 1, 2, 3], 4, 2, (10, 12, 8, 1), 234),
    ([0, 1, 1, 0], 4, 2, (10, 12, 8, 1), 352),
    ([0, 1, 0, 1], 4, 3, (20, 24, 16, 1), 544),
    ([0, 1, 2, 2, 1, 0], 3, 4, (10, 12, 8, 2), 268),
    ([0, 1, 2, 3], 8, 3, (10, 12, 8, 1), 342),
    ([0, 1, 2, 3], 8, 3, (1, 1, 1, 0), 31),
    ([0, 1, 2, 3], 8, 2, (1, 1, 1, 0), 41),
]


class BoundSolver(unittest.TestCase):
    def test_bounds_are_below_the_optimum_and_the_search_finds_it(self) -> None:
        for placement, microbatches, cap, costs, known in TABLE:
            with self.subTest(placement=placement, microbatches=microbatches, cap=cap, costs=costs):
                best = optimum(placement, microbatches, cap, *costs)
                self.assertEqual(best, known)
                ours = search(placement, microbatches, cap, *costs)
                self.assertLessEqual(ours["quick"], ours["exact"])
                self.assertLessEqual(ours["exact"], best)
                self.assertEqual(ours["found"], best)


if __name__ == "__main__":
    unittest.main()
