"""plait.record on torch's own runtime, in real processes over Gloo."""

from __future__ import annotations

import importlib.util
import pathlib
import tempfile
import unittest
from typing import Any

import plait
from plait.recording import _Event, assemble, clocks_of
from processes import on_ranks, own_stages

MICROBATCHES, WIDTH = 4, 8
# By torch's name: stages a rank.
CHUNKS = {"ScheduleGPipe": 1, "Schedule1F1B": 1, "ScheduleInterleaved1F1B": 2, "ScheduleZBVZeroBubble": 2, "ScheduleDualPipeV": 2}


def record_all(rank: int, ranks: int, folder: str) -> Any:
    """By schedule."""
    return {name: record_steps(rank, ranks, name, f"{folder}/{name}") for name in CHUNKS}


def record_steps(rank: int, ranks: int, name: str, folder: str) -> Any:
    """Of a recorded run: what the timeline holds; losses with and without a recording."""
    import torch
    import torch.distributed.pipelining as pipelining
    from torch import nn

    import plait

    chunks = CHUNKS[name]
    count = ranks * chunks
    on_a_v = name in ("ScheduleZBVZeroBubble", "ScheduleDualPipeV")
    own = own_stages(rank, ranks, chunks, on_a_v)
    torch.manual_seed(0)
    modules = [nn.Linear(WIDTH, WIDTH) for _ in range(count)]
    x, y = torch.randn(2 * MICROBATCHES, WIDTH), torch.randn(2 * MICROBATCHES, WIDTH)
    stages = [pipelining.PipelineStage(modules[i], i, count, torch.device("cpu")) for i in own]
    schedule = getattr(pipelining, name)(stages if chunks > 1 else stages[0], MICROBATCHES, loss_fn=nn.functional.mse_loss)
    losses: list[list[float]] = []

    def step() -> None:
        seen: list[torch.Tensor] = []
        schedule.step(*([x] if 0 in own else []), target=y if count - 1 in own else None, losses=seen)
        losses.append([one.item() for one in seen])

    with plait.record(schedule, f"{folder}/step-{{step}}.json") as recording:
        step()
        step()
    steps = recording.steps
    step()  # not recorded
    timeline = recording.last_step
    assert timeline is not None
    types = plait.action_types()
    events = [
        (int(timeline.rank[i]), types[timeline.type[i]], int(timeline.stage[i]), int(timeline.microbatch[i]),
         int(timeline.lane[i]), int(timeline.begin_ns[i]), int(timeline.end_ns[i]), int(timeline.awaited_rank[i]),
         int(timeline.pair[i]))
        for i in range(len(timeline))
    ]
    return {"losses": losses, "events": events, "steps": (steps, recording.steps), "left": sorted(vars(schedule).keys() & {"step"}),
            "bubble": timeline.metrics().bubble_share}


@unittest.skipUnless(importlib.util.find_spec("torch"), "no torch")
class OfTorch(unittest.TestCase):
    def test_a_step_of_every_runtime_of_torch(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            every = on_ranks(record_all, 2, folder)
            for name in CHUNKS:
                with self.subTest(name):
                    self.look_at(name, [results[name] for results in every], pathlib.Path(folder, name))

    def look_at(self, name: str, results: list[Any], folder: pathlib.Path) -> None:
        chunks = CHUNKS[name]
        first = results[0]
        events = first["events"]
        for result in results:
            self.assertEqual(result["events"], events)  # every rank has the whole
            self.assertEqual(result["steps"], (2, 2))
            self.assertEqual(result["left"], [])
            self.assertEqual(result["losses"][0], result["losses"][2])
        computed: dict[Any, set[str]] = {}
        for _, kind, stage, microbatch, lane, begin, end, _, _ in events:
            self.assertLessEqual(begin, end)
            if lane == 0:
                computed.setdefault((stage, microbatch), set()).add(kind)
        self.assertEqual(set(computed), {(s, m) for s in range(2 * chunks) for m in range(MICROBATCHES)})
        for kinds in computed.values():
            self.assertIn(kinds, ({"F", "B"}, {"F", "I", "W"}))
        crossing = sum(1 for event in events if event[7] >= 0)
        for ends in ("SEND_F", "RECV_F", "SEND_B", "RECV_B"):
            count = sum(1 for event in events if event[1] == ends)
            self.assertEqual(2 * count, crossing, ends)  # each message has one reader
        self.assertEqual(any(event[8] >= 0 for event in events), name == "ScheduleDualPipeV")
        for rank in range(2):
            lane_of_rank = sorted((e[5], e[6]) for e in events if e[0] == rank and e[4] == 0)
            for before, after in zip(lane_of_rank, lane_of_rank[1:]):
                self.assertLessEqual(before[1], after[0])
        self.assertTrue(0 < first["bubble"] < 1)
        self.assertEqual(sorted(file.name for file in folder.iterdir()), ["step-1.json", "step-2.json"])
        read = plait.Timeline.read(folder / "step-2.json")
        self.assertEqual((read.ranks, read.step, len(read)), (2, 2, len(events)))
        page = plait.view(plait.Schedule(name.removeprefix("Schedule"), ranks=2, microbatches=MICROBATCHES), read,
                          path=folder / "page.html", browser=False)
        self.assertIn('"unit":"ns"', page.read_text())


class Assembled(unittest.TestCase):
    def test_messages_meet_and_clocks_are_taken_out(self) -> None:
        seen = [[_Event(0, "F", 0, 100, 110), _Event(0, "SEND_F", 0, 110, 200)],
                [_Event(1, "RECV_F", 0, 1090, 1130), _Event(1, "F", 0, 1131, 1150)]]
        timeline = assemble(seen, [(0, 0), (1000, 3)], 7, "torch")
        self.assertEqual(timeline.step, 7)
        self.assertEqual(timeline.begin_ns.tolist(), [10, 20, 0, 41])
        self.assertEqual(timeline.end_ns.tolist(), [20, 40, 40, 60])  # the send: until the receiver has it
        self.assertEqual(timeline.waits_ns.tolist(), [0, 0, 20, 0])  # the receiver was 20 ns early
        self.assertEqual(timeline.awaited_rank.tolist(), [-1, -1, -1, 0])
        self.assertEqual(timeline.awaited_instruction.tolist(), [-1, -1, -1, 0])

    def test_an_exchange_bounds_clocks_from_both_sides(self) -> None:
        # Rank 1 is 1,000 ahead. It left the first exchange 10 after rank 0 entered, and entered the second
        # 4 before rank 0 left.
        exchanges = [[(0, 30), (1005, 1010)], [(100, 110), (1106, 1150)]]
        self.assertEqual(clocks_of(exchanges), [(0, 0), (1003, 7)])

    def test_what_is_no_schedule_is_refused(self) -> None:
        with self.assertRaises(plait.InvalidInput) as caught:
            plait.record(object())
        self.assertEqual(caught.exception.argument, "torch_schedule")


if __name__ == "__main__":
    unittest.main()
