"""The metrics of a run as columns."""

import contextlib
import io
import json
import math
import pathlib
import sys
import tempfile
import unittest
import unittest.mock

import plait
import plait.tensorboard

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

    def test_pandas_takes_the_columns(self) -> None:
        try:
            import pandas  # noqa: PLC0415
        except ImportError:
            self.skipTest("no pandas (pip install pandas)")
        text = HEADER + line(1, 4.0) + line(2, 3.5) + '{"step": 2, "validation_loss": 3.25, "validation_bits_per_byte": 4.5, "tokens": 9}\n'
        frame = pandas.DataFrame(self.read(text)).set_index("step")
        self.assertEqual(frame["loss"].tolist(), [4.0, 3.5])
        self.assertEqual(frame["validation_loss"].isna().tolist(), [True, False])
        self.assertEqual(frame.filter(regex="^bubble_share").mean(axis=1).tolist(), [0.375, 0.375])

    def test_errors_have_the_line(self) -> None:
        with self.assertRaises(plait.InvalidInput) as caught:
            self.read(HEADER + line(2, 1.0) + line(1, 1.0))
        self.assertEqual(caught.exception.line, 3)
        self.assertTrue(caught.exception.file.endswith("metrics.jsonl"))


class TensorBoard(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.run_folder = pathlib.Path(self.folder.name)
        text = HEADER + line(1, 4.0) + line(2, 3.5) + '{"step": 2, "validation_loss": 3.25, "validation_bits_per_byte": 4.5, "tokens": 9}\n'
        (self.run_folder / "metrics.jsonl").write_text(text)

    def test_tensorboard_reads_what_is_written(self) -> None:
        try:
            from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: PLC0415
        except ImportError:
            self.skipTest("no tensorboard (pip install tensorboard)")
        for _ in range(2):  # the second writing takes the first one's place
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                self.assertEqual(plait.tensorboard.main([str(self.run_folder)]), 0)
        self.assertIn("tensorboard --logdir", printed.getvalue())
        read = EventAccumulator(str(self.run_folder / "tensorboard"))
        read.Reload()
        self.assertEqual([(one.step, one.value) for one in read.Scalars("loss")], [(1, 4.0), (2, 3.5)])
        self.assertEqual([(one.step, one.value) for one in read.Scalars("bubble_share/rank 1")], [(1, 0.5), (2, 0.5)])
        self.assertEqual([(one.step, one.value) for one in read.Scalars("validation_loss")], [(2, 3.25)])

    def test_what_is_missing_is_said(self) -> None:
        with unittest.mock.patch.dict(sys.modules, {"tensorboard.compat.proto.summary_pb2": None}):
            with self.assertRaisesRegex(plait.NotBuilt, "pip install"):
                plait.tensorboard.write(self.run_folder)
        with contextlib.redirect_stderr(io.StringIO()) as printed:
            self.assertEqual(plait.tensorboard.main([str(self.run_folder / "nowhere")]), 2)
        self.assertIn("error:", printed.getvalue())


if __name__ == "__main__":
    unittest.main()
