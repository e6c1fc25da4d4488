"""The metrics of a run as columns."""

import json
import math
import pathlib
import tempfile
import unittest

import plait

HEADER = '{"format": "plait metrics", "version": 1}\n'


def line(step: int, loss: float) -> str:
    row = {name: [0, 0] if info.of_ranks else 0 for name, info in plait.metric_fields().items()}
    row.update(step=step, loss=loss, tokens=64, step_ns=1000, bubble_share=[0.25, 0.5])
    return json.dumps(row) + "\n"


class Metrics(unittest.TestCase):
    def read(self, text: str) -> dict:
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, "metrics.jsonl").write_text(text)
            return plait.read_metrics(folder)

    def test_columns_by_step_and_rank(self) -> None:
        text = HEADER + line(1, 4.0) + line(2, 3.5)
        text += '{"step": 2, "validation_loss": 3.25, "validation_bits_per_byte": 4.5, "tokens": 10}\n'
        columns = self.read(text + line(3, 3.0)[:40])  # a line that is being written
        self.assertEqual(columns["step"].tolist(), [1, 2])
        self.assertEqual(columns["loss"].tolist(), [4.0, 3.5])
        self.assertEqual(columns["bubble_share.1"].tolist(), [0.5, 0.5])
        self.assertEqual(columns["tokens_per_s"].tolist(), [64e6, 64e6])
        self.assertTrue(math.isnan(columns["validation_loss"][0]))
        self.assertEqual(columns["validation_loss"][1], 3.25)
        self.assertEqual(len({len(column) for column in columns.values()}), 1)
        for name in columns:
            if not name.startswith(("validation", "step")):
                self.assertIn(name.split(".")[0], plait.metric_fields())

    def test_what_is_wrong_is_said(self) -> None:
        for text in ("{}\n", HEADER + line(2, 1.0) + line(1, 1.0), HEADER + "{\n"):
            with self.assertRaises(plait.InvalidInput):
                self.read(text)
        with self.assertRaises(plait.InvalidInput):
            plait.read_metrics("/nowhere.jsonl")


if __name__ == "__main__":
    unittest.main()
