"""Wrong input gets one clear error (file, line or flag; found; needed), exit code 2, and leaves nothing behind."""

import os
import pathlib
import socket
import unittest

import command


class WrongInput(command.CommandTest):
    def refused(self, *needed: str, arguments: tuple[str, ...] = (), env: dict[str, str] | None = None) -> None:
        before = self.files()
        result = self.train(*arguments, env=env)
        self.assertEqual(result.returncode, 2, result.stdout + result.stderr)
        errors = [line for line in result.stderr.splitlines() if "error" in line]
        self.assertEqual(len(errors), 1, result.stderr)
        for text in needed:
            self.assertIn(text, errors[0])
        self.assertEqual(self.files(), before)

    def test_misspelt_key(self) -> None:
        self.write_job(parallel={"microbatch": 4})
        self.refused("job.toml:", "microbatch", "microbatches")

    def test_unknown_section(self) -> None:
        self.write_job(optimiser={"lr": 0.1})
        self.refused("job.toml:", "optimiser", "optimizer")

    def test_misspelt_flag_key(self) -> None:
        self.refused("--set", "run.step", "steps", arguments=("--set", "run.step=3"))

    def test_wrong_type(self) -> None:
        self.write_job(run={"steps": "many"})
        self.refused("job.toml:", "steps", "many", "integer")

    def test_missing_job(self) -> None:
        (self.folder / "job.toml").unlink()
        self.refused("job.toml")

    def test_a_folder_for_a_job(self) -> None:
        (self.folder / "job.toml").unlink()
        (self.folder / "job.toml").mkdir()
        self.refused("job.toml", "the job file cannot be read")

    def test_a_folder_for_a_braid(self) -> None:
        self.mixture()
        self.refused("the braid file cannot be read", arguments=("--set", "parallel.pairs=braid", "--set", "parallel.braid=."))

    def test_broken_toml(self) -> None:
        (self.folder / "job.toml").write_text("[model\n")
        self.refused("job.toml:1")

    def test_too_few_microbatches(self) -> None:
        self.refused("3", "4", arguments=("--microbatches", "3", "--set", "run.batch_size=3"))

    def test_fewer_layers_than_stages(self) -> None:
        self.refused("3", "4", "layers", "stages", arguments=("--set", "model.num_hidden_layers=3"))

    def test_wrong_layers_per_stage(self) -> None:
        self.refused("layers_per_stage", "9", "8", arguments=("--set", "parallel.layers_per_stage=[2, 2, 2, 3]"))

    def test_lowering_out_of_range(self) -> None:
        shared = ("--set", "parallel.data=2", "--set", "parallel.shard=parameters", "--set", "run.batch_size=16")
        for given, needed in ((("max_active_stages=-1",), "max_active_stages is -1, needs to be at least 0"),
                              (("max_active_stages=1",), "parallel.max_active_stages: found 1, needed at least 2: "),
                              (("max_active_stages=2", "unshard_lookahead=3,1"),
                               "parallel.unshard_lookahead: found '3' for rank 0, needed a number from 1 to 2, the stages that may be active"),
                              (("unshard_lookahead=auto,2",), "parallel.unshard_lookahead: found 'auto' for rank 0"),
                              (("max_outstanding_sends=-2",), "max_outstanding_sends is -2, needs to be at least 0")):
            with self.subTest(given):
                self.refused(needed, arguments=(*shared, *(word for one in given for word in ("--set", f"parallel.{one}"))))

    def test_a_file_that_keeps_more_stages_whole(self) -> None:
        lowered = self.plait("make", "zbv", "--ranks", "2", "--microbatches", "4", "--lower", "--max-active-stages", "2")
        (self.folder / "two.csv").write_text(lowered.stdout)
        result = self.train("--set", "parallel.data=2", "--set", "parallel.shard=parameters", "--set", "run.batch_size=16", "--set",
                            "parallel.schedule=two.csv", "--set", "parallel.max_active_stages=1")
        self.assertEqual(result.returncode, 2, result.stdout + result.stderr)
        self.assertIn("makes 2 stages of the rank whole, the cap is 1: 0, 3", result.stderr)

    def test_batch_not_divisible(self) -> None:
        self.refused("batch_size", "6", "4", arguments=("--set", "run.batch_size=6"))

    def mixture(self, **keys: object) -> None:
        self.write_job(model={"architecture": "deepseek-v3", "n_routed_experts": 6, "num_experts_per_tok": 2,
                              "moe_intermediate_size": 8, "num_hidden_layers": 4},
                       parallel={"expert": 2, **keys}, run={"batch_size": 8})

    def test_experts_not_divisible(self) -> None:
        self.mixture(expert=4)
        self.refused("n_routed_experts", "6", "4", arguments=("--set", "run.batch_size=16"))

    def test_expert_groups_of_a_dense_model(self) -> None:
        self.refused("expert", "2", arguments=("--set", "parallel.expert=2", "--set", "run.batch_size=8"))

    def test_batch_of_expert_groups_not_divisible(self) -> None:
        self.mixture()
        self.refused("batch_size", "4", arguments=("--set", "run.batch_size=4"))

    def test_groups_that_do_not_multiply_to_the_ranks(self) -> None:
        self.mixture()
        self.refused("3 processes", "4 ranks", arguments=("--comm", "gloo"),
                     env={"RANK": "0", "WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"})

    def braid(self, compute: str, communication: str) -> tuple[str, ...]:
        self.mixture()
        default = self.plait("braid", "show", "default").stdout
        lines = [line for line in default.splitlines() if not line.startswith(("compute:", "communication:"))]
        lines += [f"compute: {compute}", f"communication: {communication}"]
        (self.folder / "order.braid").write_text("\n".join(lines) + "\n")
        return ("--set", "parallel.pairs=braid", "--set", "parallel.braid=order.braid")

    def test_a_braid_that_misses_a_segment(self) -> None:
        arguments = self.braid("attn.F mlp.B mlp.W mlp.F attn.B", "combine.B counts.F dispatch.F dispatch.B combine.F")
        self.refused("order.braid", "attn.W", arguments=arguments)

    def test_a_braid_that_repeats_a_segment(self) -> None:
        arguments = self.braid("attn.F mlp.B mlp.W mlp.F attn.B attn.W attn.W",
                               "combine.B counts.F dispatch.F dispatch.B combine.F")
        self.refused("order.braid", "attn.W", arguments=arguments)

    def test_an_absent_braid(self) -> None:
        self.mixture()
        self.refused("absent.braid", arguments=("--set", "parallel.pairs=braid", "--set", "parallel.braid=absent.braid"))

    def test_unknown_schedule(self) -> None:
        self.refused("dualpipe-w", "dualpipe-v", arguments=("--schedule", "dualpipe-w"))

    def test_missing_data(self) -> None:
        self.refused("absent.txt", arguments=("--set", "data.train=absent.txt"))

    def test_empty_data(self) -> None:
        (self.folder / "text.txt").write_bytes(b"")
        self.refused("text.txt", "empty")

    def test_short_data(self) -> None:
        (self.folder / "text.txt").write_bytes(b"abc")
        self.refused("text.txt", "3", "9")

    def test_token_outside_vocabulary(self) -> None:
        self.refused("text.txt", "100", arguments=("--set", "model.vocab_size=100"))

    def test_odd_token_file(self) -> None:
        (self.folder / "text.txt").write_bytes(b"\0" * 4001)
        self.refused("text.txt", "4001", "uint16", arguments=("--set", "data.format=uint16"))

    def test_existing_run_folder(self) -> None:
        (self.folder / "runs/job").mkdir(parents=True)
        self.refused("runs/job", "--overwrite")

    def test_overwrite_spares_foreign_folders(self) -> None:
        (self.folder / "runs/job").mkdir(parents=True)
        (self.folder / "runs/job/thesis.tex").write_text("mine")
        self.refused("runs/job", arguments=("--overwrite",))

    def test_run_folder_that_cannot_be_written(self) -> None:
        (self.folder / "runs").write_text("a file")
        self.refused("runs")

    def test_tied_embeddings_on_two_ranks(self) -> None:
        self.refused("tie_word_embeddings", "rank 0", "rank 1",
                     arguments=("--set", "model.tie_word_embeddings=true", "--schedule", "1f1b"))

    def test_features_not_built_yet(self) -> None:
        self.refused("nccl", "this version", arguments=("--set", "run.comm=nccl"))

    @unittest.skipIf(pathlib.Path("/dev/nvidiactl").exists(), "this machine has a GPU")
    def test_a_gpu_that_is_not_there(self) -> None:
        self.refused("device is cuda, ", arguments=("--set", "run.device=cuda"))

    def test_processes_on_gpus(self) -> None:
        self.refused("device is cuda, ", "inproc", "gloo", arguments=("--set", "run.device=cuda", "--comm", "gloo"))

    def test_experts_that_do_not_fit(self) -> None:
        for setting, found, needed in (
                ("parallel.expert=2", "expert is 2", "deepseek-v3"),
                ("parallel.data=3", "batch_size is 4", "multiple of 12 (4 micro-batches"),
                ("model.n_routed_experts=8", "n_routed_experts is 8", "llama has no experts"),
                ("model.architecture=deepseek-v3", "n_routed_experts is 0", "at least 1"),
                ("parallel.pairs=twist", "twist", "braid, sequence, off"),
                ("parallel.recompute=some", "some", "none, selective, full")):
            with self.subTest(setting):
                self.refused(found, needed, arguments=("--set", setting))

    def test_dropout_of_everything(self) -> None:
        for share in ("1.0", "-0.5", "nan"):
            with self.subTest(share):
                self.refused("hidden_dropout is", "at least 0 and below 1", arguments=("--set", f"model.hidden_dropout={share}"))

    def test_integers_out_of_range(self) -> None:
        for setting, needed in (("run.steps=99999999999", "run.steps is 99999999999, must be 1 to 2147483647"),
                                ("run.steps=99999999999999999999", "run.steps is 99999999999999999999, must be 1 to 2147483647"),
                                ("data.sequence_length=999999999999", "data.sequence_length is 999999999999, must be 1 to 2147483647"),
                                ("run.validate_every=-99999999999", "run.validate_every is -99999999999, must be 0 to 2147483647"),
                                ("run.seed=18446744073709551615",
                                 "run.seed is 18446744073709551615, must be 0 to 9223372036854775807"),
                                ("run.seed=-1", "run.seed is -1, must be 0 to 9223372036854775807")):
            with self.subTest(setting):
                self.refused(f"--set {setting}: {needed}", arguments=("--set", setting))

    def test_more_threads_than_a_machine_has(self) -> None:
        self.refused("run.threads: is 100000, must be 1 to", arguments=("--set", "run.threads=100000"))

    def test_flags_that_do_not_apply(self) -> None:
        (self.folder / "model").mkdir()
        for arguments, needed in (
                (("--set", "model.init=model", "--set", "model.hidden_size=32"), "model.hidden_size does not apply: model.init is model"),
                (("--set", "data.validation=text.txt", "--set", "data.validation_share=0.1"), "data.validation_share does not apply"),
                (("--set", "parallel.braid=order.braid"), "parallel.braid does not apply: parallel.pairs is sequence"),
                (("--set", "parallel.max_active_stages=2"), "parallel.max_active_stages does not apply: parallel.shard is none"),
                (("--set", "parallel.unshard_lookahead=auto"), "parallel.unshard_lookahead does not apply: parallel.shard is none"),
                (("--set", "parallel.token_bound=2"), "parallel.token_bound does not apply: parallel.expert is 1"),
                (("--record", "9"), "--record 9: the run ends at step 3"),
                (("--reference", "--record", "1"), "--record: does not apply to a reference run"),
                (("--port", "12345"), "--port: is of ranks that are processes"),
                (("--set", "data.validation_share=0", "--set", "run.validate_every=1"), "validate_every is 1, but nothing is held out")):
            with self.subTest(arguments):
                self.refused(needed, arguments=arguments)

    def test_keys_beside_a_model_that_say_something_else(self) -> None:
        self.assertEqual(self.train("--set", "run.steps=1", "--set", "run.folder=first").returncode, 0)
        started = ("--set", "model.init=first/model")
        for key, value, held in (("hidden_size", 32, 16), ("tie_word_embeddings", True, "false"), ("head_dim", 4, 8),
                                 ("architecture", "mistral", "llama"), ("num_key_value_heads", 2, 1)):
            with self.subTest(key):
                self.write_job(model={key: value})
                self.refused("job.toml:", f"model.{key} is {str(value).lower()}, but model.init is first/model, whose files say {held}",
                             arguments=started)
        # What they say too, and what they cannot, may stand beside them: the file of such a run has all keys.
        self.write_job(model={"head_dim": 0, "hidden_dropout": 0.1, "init": "first/model"})
        self.assertEqual(self.train("--set", "run.folder=second").returncode, 0)
        again = self.plait("train", "second/job.toml", "--dry-run")
        self.assertEqual(again.returncode, 0, again.stderr)

    def test_a_seed_where_nothing_is_drawn(self) -> None:
        for arguments in (("--temperature", "0", "--seed", "3"), ("--seed", "1", "--temperature", "0.0")):
            result = self.plait("sample", ".", "--prompt", "a", *arguments)
            self.assertEqual(result.returncode, 2, result.stderr)
            self.assertIn("--seed: does not apply at temperature 0, where nothing is drawn", result.stderr)

    def test_no_validation(self) -> None:
        result = self.train("--set", "data.validation_share=0")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertNotIn("validation", (self.folder / "runs/job/metrics.jsonl").read_text())
        self.assertNotIn("validation loss", result.stdout)
        self.assertTrue((self.folder / "runs/job/model").is_dir())

    def test_missing_init(self) -> None:
        self.refused("nowhere", arguments=("--set", "model.init=nowhere"))

    def test_unknown_flag(self) -> None:
        result = self.train("--rank", "2", "--quick")
        self.assertEqual(result.returncode, 2)

    def test_broken_torchrun_environment(self) -> None:
        self.refused("WORLD_SIZE", "two", arguments=("--comm", "gloo"),
                     env={"RANK": "0", "WORLD_SIZE": "two", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1",
                          "MASTER_PORT": "29511"})

    def test_world_size_that_is_not_the_jobs(self) -> None:
        self.refused("3", "2", arguments=("--comm", "gloo"),
                     env={"RANK": "0", "WORLD_SIZE": "3", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1",
                          "MASTER_PORT": "29511"})

    def test_port_in_use(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            self.refused(str(port), "in use", arguments=("--comm", "gloo", "--port", str(port)))


if __name__ == "__main__":
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    unittest.main()
