"""Schedules by name, text, file, lists and torch's objects; their proof, price, pictures and files."""

import json
import pathlib
import sys
import tempfile
import threading
import time
import unittest
import unittest.mock

import numpy
import plait

ROOT = pathlib.Path(__file__).resolve().parents[2]
LISTS = [["0F0", "0F1", None, "0B0", "0B1"], ["", "1F0", ["1F1", "1B0"], "1B1"]]
CSV = "0F0,0F1,,0B0,0B1\n,1F0,(1F1;1B0)OVERLAP_F_B,1B1\n"


class Sources(unittest.TestCase):
    def test_every_name_torchs_too(self) -> None:
        made = 0
        for name, info in plait.schedules().items():
            schedule = plait.Schedule(name, ranks=4, microbatches=12)
            self.assertEqual((schedule.ranks, schedule.microbatches, schedule.stages), (4, 12, 4 * info.chunks), name)
            schedule.check()
            if info.torch_name:
                self.assertEqual(plait.Schedule(info.torch_name, ranks=4, microbatches=12), schedule)
            made += 1
        self.assertGreaterEqual(made, 20)

    def test_lists_text_and_file_are_one_schedule(self) -> None:
        lists = plait.Schedule(LISTS)
        text = plait.Schedule(CSV)
        self.assertEqual([lists.cells(rank) for rank in range(2)], [text.cells(rank) for rank in range(2)])
        self.assertEqual(lists.cells(1), ["", "1F0", "(1F1;1B0)OVERLAP_F_B", "1B1"])
        with tempfile.TemporaryDirectory() as folder:
            for form in ("csv", "json", "plait"):
                file = pathlib.Path(folder, f"mine.{form}")
                lists.save(file)
                read = plait.Schedule(file)
                self.assertEqual([read.cells(rank) for rank in range(2)], [lists.cells(rank) for rank in range(2)])
                self.assertEqual(plait.Schedule(str(file)), read)
            lists.save(pathlib.Path(folder, "mine.svg"))
            self.assertTrue(pathlib.Path(folder, "mine.svg").read_text().startswith("<svg"))

    def test_a_placement_can_be_numbers(self) -> None:
        schedule = plait.Schedule([["0F0", "1F0", "1B0", "0B0"], []], placement=[0, 0])
        self.assertEqual(schedule.rank_of_stage.tolist(), [0, 0])
        self.assertEqual(plait.Schedule("dualpipe", ranks=2, microbatches=4).rank_of_stage.tolist(), [[0, 1], [1, 0]])

    def test_what_is_wrong_is_said(self) -> None:
        for make, needed in (
            (lambda: plait.Schedule("dualpip-v", ranks=4, microbatches=8), "did you mean dualpipe-v"),
            (lambda: plait.Schedule("dualpipe-v", ranks=4), "microbatches: is missing"),
            (lambda: plait.Schedule("dualpipe-v", ranks=4, microbatches=7), "microbatches"),
            (lambda: plait.Schedule("1f1b", ranks=0, microbatches=8), "ranks: found 0, needed a number from 1 to 65536"),
            (lambda: plait.Schedule("looped-bfs", ranks=1, microbatches=8, chunks=-1), "chunks: found -1"),
            (lambda: plait.Schedule("1f1b", ranks=4, microbatches=8, stages=4), "stages: is of a file"),
            (lambda: plait.Schedule(LISTS, chunks=2), "chunks: is of a schedule by name"),
            (lambda: plait.Schedule([["0F0", "0X0"]]), "lists[0][1]: in '0X0'"),
            (lambda: plait.Schedule("0F0\n1X0\n"), "text:2:2"),
            (lambda: plait.Schedule("/nowhere.csv"), "neither a file nor"),
            (lambda: plait.Schedule(LISTS, ranks=3), "2 rows"),
        ):
            with self.assertRaises(plait.InvalidInput) as caught:
                make()
            self.assertIn(needed, str(caught.exception))
            self.assertIsInstance(caught.exception, ValueError)

    def test_errors_have_fields(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = str(pathlib.Path(folder, "costs.toml"))
            pathlib.Path(file).write_text("[stage]\nf_ns = -1\n")
            nowhere = str(pathlib.Path(folder, "no", "a.csv"))
            lowered = plait.Schedule(LISTS).opt("insert-comm")
            for make, fields in (
                (lambda: plait.Schedule("0F0\n1X0\n"), {"file": "text", "line": 2, "column": 2, "rank": 1, "position": 0}),
                (lambda: plait.Schedule("plait 1\nranks x\n"), {"file": "text", "line": 2, "column": 7}),
                (lambda: plait.Schedule([["0F0", ["0F1", "0B0"], "0X0"]]), {"rank": 0, "position": 4, "line": 0}),
                (lambda: plait.Schedule("1f1b", ranks=0, microbatches=8), {"argument": "ranks", "where": "ranks", "rank": -1}),
                (lambda: plait.Schedule(LISTS, chunks=2), {"argument": "chunks"}),
                (lambda: plait.Schedule(LISTS, placement="x"), {"argument": "placement", "where": "placement"}),
                (lambda: plait.Schedule(LISTS).lower(max_active_stages=0), {"argument": "max_active_stages", "where": "max_active_stages"}),
                (lambda: plait.Schedule(LISTS).check(matching="x"), {"argument": "matching"}),
                (lambda: lowered.opt("insert-comm"), {"rank": 0, "position": 1, "action": "0SEND_F0"}),
                (lambda: plait.Costs.read(file), {"file": file, "line": 2, "key": "f_ns"}),
                (lambda: plait.Timeline.read(file), {"file": file, "line": 1}),
                (lambda: plait.Schedule(LISTS).save(nowhere), {"file": nowhere, "filename": nowhere}),
            ):
                with self.subTest(fields), self.assertRaises(plait.Error) as caught:
                    make()
                self.assertEqual({name: getattr(caught.exception, name) for name in fields}, fields)

    def test_what_is_expected_of_a_file_is_proven(self) -> None:
        findings = plait.Schedule(LISTS, microbatches=1).findings()
        self.assertEqual({(one.rule, one.action) for one in findings},
                         {("range", "0F1"), ("range", "0B1"), ("range", "1F1"), ("range", "1B1")})

    def test_cost_aware_schedules_take_costs_and_a_cap(self) -> None:
        costs = plait.Costs(f_ns=100, i_ns=120, w_ns=80, comm_ns=10)
        made = plait.Schedule("zbv-auto", ranks=4, microbatches=8, costs=costs, max_activations=6)
        self.assertLessEqual(made.simulate(costs).peak_activations.max(), 6)
        free = plait.Schedule("zbv-auto", ranks=4, microbatches=8, costs=costs)
        self.assertLess(free.simulate(costs).makespan_ns, made.simulate(costs).makespan_ns)


class Proofs(unittest.TestCase):
    def test_a_proof_says_what_was_proven(self) -> None:
        schedule = plait.Schedule("dualpipe-v", ranks=4, microbatches=8)
        proof = schedule.check()
        self.assertFalse(proof.lowered)
        self.assertEqual(proof.findings, ())
        with_messages = schedule.check(messages=True)
        self.assertTrue(with_messages.lowered)
        self.assertTrue(with_messages.schedule.lowered)
        self.assertIn("no deadlock", with_messages.summary)

    def test_findings_are_objects_with_both_parties(self) -> None:
        hangs = plait.Schedule(ROOT / "examples/hangs.csv")
        with self.assertRaises(plait.CheckFailed) as caught:
            hangs.check()
        error = caught.exception
        self.assertEqual((error.rank, error.position, error.action), (0, 4, "0RECV_B0"))
        self.assertEqual((error.other.rank, error.other.position, error.other.action), (1, 4, "1RECV_F1"))
        self.assertEqual([(one.rule, one.matching) for one in error.findings], [("deadlock", "pair")])
        self.assertEqual(hangs.findings(), error.findings)
        self.assertEqual(hangs.findings(matching="edge"), ())
        self.assertIsInstance(hangs.check(matching="edge"), plait.Proof)

    def test_caps_are_proven(self) -> None:
        schedule = plait.Schedule("gpipe", ranks=2, microbatches=4)
        self.assertEqual(schedule.findings(max_activations=4), ())
        findings = schedule.findings(max_activations=3)
        self.assertEqual({one.rule for one in findings}, {"memory-cap"})
        self.assertIn("memory-cap", plait.rules())
        self.assertTrue(findings[0].action.endswith("F3"))

    def test_simulating_a_broken_schedule_raises_all_findings(self) -> None:
        broken = plait.Schedule([["0F0", "0B0", "0F1", "0F2"]])
        with self.assertRaises(plait.CheckFailed) as caught:
            broken.simulate()
        self.assertEqual(len(caught.exception.findings), 2)
        self.assertIsNone(broken._repr_svg_())


class Rewrites(unittest.TestCase):
    def test_lowering_and_its_options(self) -> None:
        schedule = plait.Schedule("dualpipe-v", ranks=4, microbatches=8)
        lowered = schedule.lower()
        self.assertEqual(lowered.dialect, "torch-2.15")
        self.assertTrue(lowered.check().lowered)
        self.assertEqual(schedule.lower(dialect="torch-2.13").dialect, "torch-2.13")
        fewest = schedule.lower(max_outstanding_sends="min")
        self.assertEqual(len(fewest.notes), 1)
        self.assertNotEqual(fewest, lowered)
        self.assertEqual(schedule.lower(unshard_lookahead=[1, 1, 1, 1]), schedule.lower(unshard_lookahead="1,1,1,1"))
        for options in ({"max_active_stages": 0}, {"dialect": "torch-1"}, {"max_outstanding_sends": "max"}):
            with self.assertRaises(plait.InvalidInput):
                schedule.lower(**options)

    def test_passes(self) -> None:
        schedule = plait.Schedule("zbv", ranks=4, microbatches=8)
        one = schedule.opt(["merge-backward", "insert-comm", ("place-recv", 1)])
        self.assertEqual(one, schedule.opt("merge-backward,insert-comm,place-recv=1"))
        self.assertTrue(one.check().lowered)
        with self.assertRaisesRegex(plait.InvalidInput, "merge-backward"):
            schedule.opt("merge-backwards")

    def test_pair_chooses_by_costs(self) -> None:
        costs = {"f_ns": 100, "i_ns": 100, "w_ns": 100, "pair_share": 0.7}
        schedule = plait.Schedule("interleaved-1f1b", ranks=4, microbatches=8)
        self.assertLess(schedule.opt("pair", costs=costs).simulate(costs).makespan_ns,
                        schedule.simulate(costs).makespan_ns)
        with self.assertRaises(plait.InvalidInput):
            schedule.opt("pair", max_activations=3)


class Numbers(unittest.TestCase):
    def test_actions_are_a_view(self) -> None:
        schedule = plait.Schedule(LISTS)
        actions = schedule.actions(1)
        self.assertFalse(actions.flags.owndata or actions.flags.writeable)
        types = plait.action_types()
        self.assertEqual([types[number] for number in actions["type"]], ["", "F", "OVERLAP_F_B", "F", "B", "B"])
        self.assertEqual(actions["microbatch"].tolist(), [-1, 0, -1, 1, 0, 1])
        self.assertEqual(actions["members"].tolist(), [0, 0, 2, 0, 0, 0])
        self.assertEqual(schedule.entries, 5 + 6)
        del schedule
        self.assertEqual(actions["stage"].tolist(), [-1, 1, -1, 1, 1, 1])
        with self.assertRaises(plait.InvalidInput):
            plait.Schedule(LISTS).actions(2)

    def test_a_price(self) -> None:
        price = plait.Schedule("gpipe", ranks=2, microbatches=3).simulate(critical_path=True)
        self.assertEqual(price.makespan_ns, 12)  # (M + P - 1) (1 + 2)
        self.assertEqual(price.idle_ns.tolist(), [3, 3])
        self.assertEqual(price.idle_share.tolist(), [0.25, 0.25])
        self.assertEqual((price.fill_ns + price.steady_ns + price.drain_ns).tolist(), price.idle_ns.tolist())
        self.assertEqual(price.peak_activations.tolist(), [3, 3])
        self.assertIsNone(price.peak_bytes)
        self.assertEqual(sum(step.end_ns - step.begin_ns + step.wait_ns for step in price.critical_path), 12)
        self.assertGreaterEqual(price.above_bound_ns, 0)

    def test_costs(self) -> None:
        schedule = plait.Schedule("1f1b", ranks=2, microbatches=4)
        keys = {"f_ns": [10, 20], "i_ns": numpy.array([10, 20]), "w_ns": 5, "activation_bytes": 7, "latency_ns": 3,
                "between": [{"from": 0, "to": 1, "latency_ns": 9}]}
        price = schedule.simulate(keys)
        self.assertEqual(price.peak_bytes.tolist(), [14, 7])
        text = "[stage]\nf_ns = [10, 20]\ni_ns = [10, 20]\nw_ns = 5\nactivation_bytes = 7\n" \
               "[link]\nlatency_ns = 3\n[[link.between]]\nfrom = 0\nto = 1\nlatency_ns = 9\n"
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, "costs.toml").write_text(text)
            for costs in (plait.Costs.parse(text), pathlib.Path(folder, "costs.toml")):
                self.assertEqual(schedule.simulate(costs).makespan_ns, price.makespan_ns)
        for wrong, needed in (({"f_nz": 1}, "did you mean 'f_ns'"), ({"f_ns": -1}, "0 or more"), ({"f_ns": 1.5}, "integer"),
                              ({"f_ns": True}, "integer"), ({"f_ns": [1, 2, 3], "i_ns": 1, "w_ns": 1}, "3 entries")):
            with self.assertRaisesRegex(plait.InvalidInput, needed):
                schedule.simulate(wrong)
        with self.assertRaises(plait.InvalidInput):
            plait.Costs(f_ns=object())

    def test_a_timeline_is_columns(self) -> None:
        schedule = plait.Schedule("1f1b", ranks=2, microbatches=2)
        timeline = schedule.timeline()
        self.assertEqual(len(timeline), 8)
        self.assertFalse(timeline.begin_ns.flags.owndata or timeline.begin_ns.flags.writeable)
        names = numpy.array(plait.action_types())[timeline.type]
        self.assertEqual(set((timeline.end_ns - timeline.begin_ns)[names == "B"]), {2})
        self.assertEqual(timeline.end_ns.max(), schedule.simulate().makespan_ns)
        metrics = timeline.metrics()
        self.assertEqual((metrics.busy_ns + metrics.bubble_ns).tolist(), [metrics.span_ns] * 2)
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder, "timeline.json")
            timeline.save(file)
            read = plait.Timeline.read(file)
            self.assertEqual(read.begin_ns.tolist(), timeline.begin_ns.tolist())
            json.loads(file.read_text())
            with self.assertRaises(OSError):
                timeline.save(pathlib.Path(folder, "no", "timeline.json"))

    def test_pictures_and_the_page(self) -> None:
        schedule = plait.Schedule("dualpipe-v", ranks=2, microbatches=4)
        self.assertIn("dualpipe-v, 2 ranks, 4 micro-batches", schedule._repr_svg_())
        self.assertIn("rank 1", schedule.draw())
        with tempfile.TemporaryDirectory() as folder:
            page = plait.view(schedule, schedule.timeline({"f_ns": 5, "i_ns": 5, "w_ns": 5}),
                              path=pathlib.Path(folder, "page.html"), browser=False)
            self.assertIn('"unit":"units"', page.read_text())
            self.assertIn('"unit":"ns"', page.read_text())
        with self.assertRaises(plait.InvalidInput):
            plait.view(browser=False)

    def test_other_threads_run_meanwhile(self) -> None:
        ticks = []
        done = threading.Event()

        def tick() -> None:
            while not done.is_set():
                ticks.append(None)
                time.sleep(0)

        thread = threading.Thread(target=tick)
        thread.start()
        try:
            before = len(ticks)
            plait.Schedule("dualpipe-v", ranks=16, microbatches=2000).check()
            during = len(ticks) - before
        finally:
            done.set()
            thread.join()
        self.assertGreater(during, 1)


class Compared(unittest.TestCase):
    def test_every_schedule_is_priced_or_left_out(self) -> None:
        compared = plait.compare(ranks=4, microbatches=6)
        self.assertEqual(len(compared) + len(compared.left_out), len(plait.schedules()))
        self.assertEqual([one.makespan_ns for one in compared], sorted(one.makespan_ns for one in compared))
        self.assertEqual(compared["gpipe"].makespan_ns, (6 + 4 - 1) * 36)
        self.assertEqual(compared.left_out["dualpipe-v"], "microbatches is 6, needs at least 8, twice the 4 ranks")
        with self.assertRaisesRegex(KeyError, "needs at least 8"):
            compared["dualpipe-v"]
        self.assertEqual(len(compared.rows()), len(compared))
        self.assertIn("<td>gpipe</td>", compared._repr_html_())

    def test_memory_and_lowerings(self) -> None:
        capped = plait.compare(ranks=4, microbatches=12, memory=4)
        for one in capped:
            self.assertLessEqual(one.peak_activations.max() / one.chunks, 4)
        self.assertGreater(capped[0].makespan_ns, capped.kept_out_by_memory.makespan_ns)
        lowered = plait.compare(ranks=2, microbatches=8, max_active_stages="any", unshard_lookahead="any",
                                costs={"f_ns": 100, "i_ns": 100, "w_ns": 100, "unshard_ns": 50})
        self.assertGreater(lowered.tried, len(lowered))
        self.assertIn("max_active_stages", lowered.rows()[0])
        for wrong in ({"memory": "4XB"}, {"memory": "4GB"}, {"costs": {"f_ns": [1, 2], "i_ns": 1, "w_ns": 1}},
                      {"unshard_lookahead": "auto"}, {"max_active_stages": "all"}):
            with self.assertRaises(plait.InvalidInput):
                plait.compare(ranks=2, microbatches=4, **wrong)


class OfTorch(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        packages = list((ROOT / ".venv").glob("lib/python3*/site-packages"))
        if packages:
            sys.path.append(str(packages[0]))
        try:
            from torch.distributed.pipelining import schedules  # noqa: PLC0415
        except ImportError:
            raise unittest.SkipTest("no torch in .venv (scripts/setup)") from None
        cls.schedules = schedules

    def make(self, name: str, ranks: int, microbatches: int, chunks: int) -> object:
        stages = []
        for chunk in range(chunks):
            stage = unittest.mock.create_autospec(__import__("torch").distributed.pipelining.PipelineStage, instance=True)
            stage.group_rank, stage.group_size, stage.num_stages = 0, ranks, ranks * chunks
            stage.stage_index, stage.submod, stage.has_backward = chunk * ranks, None, True
            stages.append(stage)
        kind = self.schedules.get_schedule_class(name)
        single = issubclass(kind, self.schedules.PipelineScheduleSingle)
        return kind(stages[0] if single else stages, microbatches, loss_fn=lambda *_: None)

    def test_orders_and_maps_are_read(self) -> None:
        for name, chunks in (("GPipe", 1), ("1F1B", 1), ("Interleaved1F1B", 2), ("LoopedBFS", 2), ("InterleavedZeroBubble", 2),
                             ("ZBVZeroBubble", 2), ("DualPipeV", 2)):
            with self.subTest(name):
                theirs = self.make(name, 4, 8, chunks)
                read = plait.Schedule.of(theirs)
                ours = plait.Schedule(name, ranks=4, microbatches=8, chunks=chunks)
                self.assertEqual((read.ranks, read.stages, read.microbatches), (4, 4 * chunks, 8))
                self.assertEqual(read.rank_of_stage.tolist(), ours.rank_of_stage.tolist())
                if chunks > 1:  # torch's GPipe and 1F1B hold REDUCE_GRAD
                    self.assertEqual([read.cells(rank) for rank in range(4)], [ours.cells(rank) for rank in range(4)])
                    lowered = plait.Schedule.of(theirs, lowered=True)
                    self.assertTrue(lowered.lowered)
                    dialect = lowered.dialect
                    self.assertEqual([lowered.cells(rank) for rank in range(4)],
                                     [ours.lower(dialect=dialect).cells(rank) for rank in range(4)])

    def test_the_proof_finds_torchs_mistake(self) -> None:
        findings = plait.Schedule.of(self.make("1F1B", 2, 4, 1)).findings()
        self.assertTrue(findings)  # F1 … F4 on the last rank, where F0 … F3 are needed

    def test_what_is_none_is_refused(self) -> None:
        with self.assertRaisesRegex(plait.InvalidInput, "holds no pipeline_order"):
            plait.Schedule.of(object())

    def test_importing_plait_imports_no_torch(self) -> None:
        import subprocess  # noqa: PLC0415

        code = "import sys, plait; sys.exit('torch' in sys.modules)"
        self.assertEqual(subprocess.run([sys.executable, "-c", code], check=False).returncode, 0)


if __name__ == "__main__":
    unittest.main()
