"""A checkpoint's model in the formats of others: transformers' folders and torch's distributed checkpoints."""

import contextlib
import importlib.machinery
import importlib.util
import io
import json
import pathlib
import time
import unittest

import command
import running
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file
from transformers import LlamaForCausalLM


def load_script(name: str):
    loader = importlib.machinery.SourceFileLoader(name, str(command.ROOT / "scripts" / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


convert = load_script("convert_dcp")


class Export(command.CommandTest):
    def run_with_checkpoints(self) -> pathlib.Path:
        done = self.train("--steps", "4", "--set", "checkpoint.every=2", "--set", "checkpoint.keep_last=9", "--set", "run.folder=runs/run")
        self.assertEqual(done.returncode, 0, done.stderr)
        return self.folder / "runs/run"

    def exported(self, checkpoint: pathlib.Path, name: str) -> pathlib.Path:
        done = self.plait("export", str(checkpoint), "--out", name)
        self.assertEqual(done.returncode, 0, done.stderr)
        return self.folder / name

    def test_transformers_opens_a_checkpoint(self) -> None:
        run = self.run_with_checkpoints()
        newest = self.exported(run, "newest")
        for file in ("model.safetensors", "config.json"):
            self.assertTrue((newest / file).read_bytes() == (run / "model" / file).read_bytes(), file)
        older = self.exported(run / "checkpoints/step-2", "older")
        self.assertFalse((older / "model.safetensors").read_bytes() == (newest / "model.safetensors").read_bytes())
        model = LlamaForCausalLM.from_pretrained(older, dtype=torch.float32)
        state = {}
        for path in (run / "checkpoints/step-2").glob("rank-*.safetensors"):
            state |= load_file(path)
        for name, parameter in model.named_parameters():
            self.assertTrue(torch.equal(parameter, state[f"parameter/{name}"]), name)
        loss = model(torch.tensor([list(command.TEXT[:8])]), labels=torch.tensor([list(command.TEXT[:8])])).loss
        self.assertTrue(0 < loss.item() < 10)

    def test_a_run_that_is_alive_is_exported(self) -> None:
        process = running.start("train", "job.toml", "--steps", "1000000", "--set", "checkpoint.every=1", "--set", "checkpoint.keep_last=1",
                                folder=self.folder)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        run = self.folder / "runs/job"
        while not list((run / "checkpoints").glob("step-*")):
            self.assertIsNone(process.poll())
            time.sleep(0.01)
        for name in ("one", "two", "three"):
            LlamaForCausalLM.from_pretrained(self.exported(run, name))

    def test_what_cannot_be_exported_is_said(self) -> None:
        run = self.run_with_checkpoints()
        for checkpoint, out, words in (("runs/none", "out", "runs/none: holds no checkpoint"), (str(run), "runs/run/model", "holds a model")):
            done = self.plait("export", checkpoint, "--out", out)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(words, done.stderr)
        self.assertFalse((self.folder / "out").exists())

    def test_distributed_checkpoints_go_both_ways(self) -> None:
        folder = self.exported(self.run_with_checkpoints(), "folder")
        with contextlib.redirect_stdout(io.StringIO()):
            convert.to_dcp(folder, self.folder / "dcp")
            tensors = load_file(folder / "model.safetensors")
            loaded = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
            dcp.load(loaded, storage_reader=dcp.FileSystemReader(str(self.folder / "dcp")), no_dist=True)
            convert.to_folder(self.folder / "dcp", self.folder / "again")
        for name, tensor in load_file(self.folder / "again/model.safetensors").items():
            self.assertTrue(torch.equal(tensor, tensors[name]) and torch.equal(tensor, loaded[name]), name)
        self.assertEqual(self.train("--set", f"model.init={folder}").returncode, 0)

    def test_torchtitans_names_and_rotation_become_ours(self) -> None:
        config = {"hidden_size": 16, "num_attention_heads": 2}
        (self.folder / "folder").mkdir()
        (self.folder / "folder/config.json").write_text(json.dumps(config))
        query, key = torch.randn(16, 16), torch.randn(16, 16)
        state = {"model.tok_embeddings.weight": torch.randn(5, 16), "model.layers.0.attention.wq.weight": query,
                 "model.layers.0.attention.wk.weight": key, "optimizer.state.exp_avg": torch.zeros(3)}
        dcp.save(state, storage_writer=dcp.FileSystemWriter(str(self.folder / "dcp")), no_dist=True)
        with contextlib.redirect_stdout(io.StringIO()) as said:
            convert.to_folder(self.folder / "dcp", self.folder / "folder")
        self.assertIn("1 of the run's state left out", said.getvalue())
        ours = load_file(self.folder / "folder/model.safetensors")
        self.assertEqual(set(ours), {"model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.weight"})
        # One position's queries times another's keys, each rotated in its own manner: the scores of a head must be the same.
        hidden = torch.randn(2, 16)
        angles = torch.outer(torch.tensor([3.0, 7.0]), 10000.0 ** (-torch.arange(0, 8, 2) / 8))

        def of_pairs(weight: torch.Tensor) -> torch.Tensor:
            turned = torch.view_as_complex((hidden @ weight.T).view(2, 2, 4, 2)) * torch.polar(torch.ones_like(angles), angles)[:, None]
            return torch.view_as_real(turned).reshape(2, 2, 8)

        def of_halves(weight: torch.Tensor) -> torch.Tensor:
            first, second = (hidden @ weight.T).view(2, 2, 8).chunk(2, dim=-1)
            cos, sin = angles.cos()[:, None], angles.sin()[:, None]
            return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)

        theirs = torch.einsum("phd,qhd->hpq", of_pairs(query), of_pairs(key))
        scores = torch.einsum("phd,qhd->hpq", of_halves(ours["model.layers.0.self_attn.q_proj.weight"]),
                              of_halves(ours["model.layers.0.self_attn.k_proj.weight"]))
        self.assertTrue(torch.allclose(theirs, scores, atol=1e-5), (theirs, scores))


if __name__ == "__main__":
    unittest.main()
