"""Our models against transformers': same weights and tokens, same logits to 1e-5, for every family that plait knows.
A folder of each is trained under a schedule too: bit-equal to the reference, and transformers load what comes out.

usage: hf_parity.py MODEL_TOOL
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import command

os.environ["HF_HUB_OFFLINE"] = "1"
import numpy  # noqa: E402
import torch  # noqa: E402
from transformers import (  # noqa: E402
    Glm4MoeConfig, Glm4MoeForCausalLM, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config,
    Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM)

# One process for all cases: loading torch takes longer than what it does.
TOOL = subprocess.Popen([sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
TOLERANCE = 1e-5
MODEL = {LlamaConfig: LlamaForCausalLM, Glm4MoeConfig: Glm4MoeForCausalLM, MistralConfig: MistralForCausalLM,
         Qwen2Config: Qwen2ForCausalLM, Qwen3Config: Qwen3ForCausalLM}


def config(heads, key_value_heads, tied, theta=10000.0, layers=2, vocab=61):
    return LlamaConfig(
        vocab_size=vocab, hidden_size=48, intermediate_size=80, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=key_value_heads, max_position_embeddings=64,
        rms_norm_eps=1e-5, rope_theta=theta, tie_word_embeddings=tied, initializer_range=0.1,
        bos_token_id=None, eos_token_id=None)


def mixture(experts=6, chosen=2, shared=1, normalise=True, tied=False, theta=10000.0, dense=1):
    return Glm4MoeConfig(
        vocab_size=61, hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=12, max_position_embeddings=64, rms_norm_eps=1e-5, rope_theta=theta,
        partial_rotary_factor=1.0, use_qk_norm=False, attention_bias=False, moe_intermediate_size=24,
        n_routed_experts=experts, num_experts_per_tok=chosen, n_shared_experts=shared,
        first_k_dense_replace=dense, routed_scaling_factor=1.5, norm_topk_prob=normalise, n_group=1,
        topk_group=1, num_mtp_layers=0, tie_word_embeddings=tied, initializer_range=0.1,
        bos_token_id=None, eos_token_id=None)


def family(kind, **more):
    return kind(**{
        "vocab_size": 256, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "initializer_range": 0.1,
        "bos_token_id": None, "eos_token_id": None, "pad_token_id": None, **more})


def scaled(low=1.0, high=4.0):
    """Of 32 positions and base 100: there are frequencies that stay, that are interpolated and that are divided."""
    return {"rope_type": "llama3", "rope_theta": 100.0, "factor": 8.0, "low_freq_factor": low, "high_freq_factor": high,
            "original_max_position_embeddings": 32}


CASES = {
    "qwen2": family(Qwen2Config),
    "qwen2, tied": family(Qwen2Config, tie_word_embeddings=True, num_key_value_heads=1),
    "qwen3": family(Qwen3Config, head_dim=20),
    "qwen3, heads that divide, tied": family(Qwen3Config, head_dim=12, tie_word_embeddings=True),
    "mistral": family(MistralConfig, sliding_window=None),
    "mistral, wide heads": family(MistralConfig, sliding_window=None, head_dim=20),
    "llama, scaled positions": family(LlamaConfig, rope_parameters=scaled()),
    "llama, positions scaled otherwise": family(LlamaConfig, rope_parameters=scaled(2.0, 9.0), head_dim=32),
    "qwen3, scaled positions": family(Qwen3Config, head_dim=20, rope_parameters=scaled()),
    "as many heads of keys": config(4, 4, tied=False),
    "grouped queries": config(6, 2, tied=False, theta=500.0),
    "one head of keys, tied": config(4, 1, tied=True),
    "tied, one layer": config(4, 2, tied=True, layers=1, vocab=256),
    "mixture": mixture(),
    "mixture, more of everything": mixture(experts=16, chosen=5, shared=2, theta=500.0),
    "mixture, weights not normalised, tied": mixture(normalise=False, tied=True),
    "mixture, no dense layer": mixture(chosen=1, dense=0),
}

# Which run of check_training() where not all are made: each run for some family.
TRAINED = {"qwen2": 0, "qwen3": 1, "qwen3, heads that divide, tied": 0, "mistral": 2, "llama, scaled positions": 1}


def answer(*words):
    TOOL.stdin.write("\t".join(map(str, words)) + "\n")
    TOOL.stdin.flush()
    return TOOL.stdout.readline().strip()


def tool(*words):
    found = answer(*words)
    assert found == "done", found


def our_logits(folder, tokens, scratch):
    tokens.numpy().astype("<i8").tofile(scratch / "tokens")
    tool("logits", folder, tokens.shape[1], scratch / "tokens", scratch / "logits")
    raw = numpy.fromfile(scratch / "logits", dtype="<f4")
    return torch.from_numpy(raw).view(*tokens.shape, -1)


def load(kind, folder):
    model, info = kind.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
    problems = {key: value for key, value in info.items() if value}
    assert not problems, problems
    return model.eval()


def their_logits(model, tokens):
    with torch.no_grad():
        return model(tokens).logits


def compare(what, ours, theirs):
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    # Logits that are all nearly equal would prove nothing.
    assert theirs.std() > 0.01, theirs.std()
    difference = (ours - theirs).abs().max().item()
    print(f"{what}: largest difference {difference:.2e} of logits with deviation {theirs.std():.2f}")
    assert difference <= TOLERANCE, difference


def randomize(model):
    """Norms are born as ones and routers' biases as zeros, which would hide one that is not applied."""
    for parameter in model.parameters():
        if parameter.dim() == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    for name, buffer in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            torch.nn.init.uniform_(buffer, -0.3, 0.3)
    return model.eval()


def check(name, settings, scratch):
    kind = MODEL[type(settings)]
    tokens = torch.randint(0, settings.vocab_size, (3, 29))
    theirs = randomize(kind(settings))
    expected = their_logits(theirs, tokens)

    theirs.save_pretrained(scratch / "theirs")
    compare(f"{name}: theirs in ours", our_logits(scratch / "theirs", tokens, scratch), expected)

    theirs.save_pretrained(scratch / "shards", max_shard_size="30KB")
    assert (scratch / "shards" / "model.safetensors.index.json").exists()
    tool("copy", scratch / "shards", scratch / "copy")
    compare(f"{name}: their shards through ours", their_logits(load(kind, scratch / "copy"), tokens), expected)

    half = kind.from_pretrained(scratch / "theirs", dtype=torch.bfloat16)
    half.save_pretrained(scratch / "half")
    compare(f"{name}: their bfloat16 in ours", our_logits(scratch / "half", tokens, scratch),
            their_logits(half.float().eval(), tokens))

    tool("make", scratch / "theirs", 7, scratch / "ours")
    written = json.loads((scratch / "ours" / "config.json").read_text())
    assert written["architectures"] == [kind.__name__], written
    compare(f"{name}: ours in theirs", our_logits(scratch / "ours", tokens, scratch),
            their_logits(load(kind, scratch / "ours"), tokens))


def train(init, folder, *more):
    """Two steps; what they leave: losses and the model's file."""
    done = command.plait("train", "job.toml", "--set", f"model.init={init}", "--set", f"run.folder={folder}", *more, folder=folder.parent)
    assert done.returncode == 0, done
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()[1:]]
    losses = [(line["loss"], line["grad_norm"]) for line in lines if "loss" in line]
    assert len(losses) == 2, losses
    return losses, (folder / "model/model.safetensors").read_bytes()


JOB = """[data]
train = "{text}"
sequence_length = 16
[parallel]
pipeline = 2
microbatches = 4
[optimizer]
lr = 0.01
warmup_steps = 0
[run]
steps = 2
batch_size = 8
"""


def check_training(name, settings, scratch):
    """A folder of transformers, trained by plait, is trained as the reference trains it, and transformers load it."""
    kind = MODEL[type(settings)]
    (scratch / "text").write_bytes(bytes(range(32, 127)) * 40)
    (scratch / "job.toml").write_text(JOB.format(text=scratch / "text"))
    # The embedding has a stage of its own, and so has the head in one of them.
    runs = [("--schedule", "zbv", "--set", "parallel.layers_per_stage=[0,2,1,0]"),
            ("--schedule", "dualpipe-v", "--set", "parallel.layers_per_stage=[0,1,1,1]", "--set", "parallel.recompute=full")]
    if not settings.tie_word_embeddings:
        runs.append(("--schedule", "1f1b", "--comm", "gloo"))
    reference = train(scratch / "theirs", scratch / "reference", "--reference", *runs[0])
    if not command.NIGHTLY:
        runs = [runs[TRAINED[name]]]
    for i, arguments in enumerate(runs):
        trained = train(scratch / "theirs", scratch / f"run-{i}", *arguments)
        assert trained == reference, f"{name}: {arguments} trains otherwise than the reference"
    tokens = torch.randint(0, settings.vocab_size, (3, 29))
    model = load(kind, scratch / "run-0/model")
    before = their_logits(load(kind, scratch / "theirs"), tokens)
    after = their_logits(model, tokens)
    assert (before - after).abs().max() > 1e-3, "the training has moved nothing"
    compare(f"{name}: trained by ours, in theirs", our_logits(scratch / "run-0/model", tokens, scratch), after)


def refused(settings, key, value, words, scratch):
    """A config.json that asks for what plait lacks is refused by its key."""
    MODEL[type(settings)](settings).save_pretrained(scratch)
    path = scratch / "config.json"
    config = json.loads(path.read_text())
    config.pop(key, None)
    if value is not ...:
        config[key] = value
    path.write_text(json.dumps(config))
    found = answer("copy", scratch, scratch / "copy")
    assert words in found, found


def check_refusals():
    for kind, key, value, words in (
            (MistralConfig, "sliding_window", 16, "sliding_window is 16, this version knows only null"),
            (MistralConfig, "sliding_window", ..., "sliding_window is missing, which means 4096"),
            (Qwen2Config, "use_sliding_window", True, "use_sliding_window is true, this version knows only false"),
            (Qwen2Config, "layer_types", ["full_attention", "sliding_attention"], 'layer_types is "sliding_attention"'),
            (Qwen3Config, "attention_bias", True, "attention_bias is true, this version knows only false"),
            (Qwen3Config, "hidden_act", "gelu", 'hidden_act is "gelu", this version knows only "silu"'),
            (LlamaConfig, "rope_parameters", {"rope_type": "yarn", "factor": 4.0}, 'rope_type is "yarn"'),
            (LlamaConfig, "rope_scaling", {"type": "linear", "factor": 4.0}, 'rope_type is "linear"'),
            (LlamaConfig, "head_dim", 13, "head_dim is 13, must be even")):
        more = {"sliding_window": None} if kind is MistralConfig else {}
        with tempfile.TemporaryDirectory() as scratch:
            refused(family(kind, **more), key, value, words, pathlib.Path(scratch))


def check_broken_folders(scratch):
    """What stands in place of a file of the model is wrong input, known before a rank starts."""
    (scratch / "text").write_bytes(bytes(range(32, 127)) * 40)
    (scratch / "job.toml").write_text(JOB.format(text=scratch / "text"))
    folder = scratch / "model"

    def dry_run():
        return command.plait("train", "job.toml", "--dry-run", "--set", f"model.init={folder}", "--schedule", "gpipe", folder=scratch)

    LlamaForCausalLM(family(LlamaConfig)).save_pretrained(folder, max_shard_size="100KB")
    assert dry_run().returncode == 0, dry_run().stderr
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    whole = shard.read_bytes()
    for content, words in ((whole[:-9], "it is cut off"), (b"version https://git-lfs.github.com/spec/v1\n", "is a git-lfs pointer"),
                           (b"", "has 0 bytes"), (None, f"shard {shard.name} is missing")):
        shard.unlink()
        if content is not None:
            shard.write_bytes(content)
        result = dry_run()
        assert result.returncode == 2 and words in result.stderr, (words, result)


def check_older_names(scratch):
    """Before transformers 5, rope_theta and rope_scaling stood where rope_parameters stand now."""
    theirs = randomize(LlamaForCausalLM(family(LlamaConfig, rope_parameters=scaled())))
    theirs.save_pretrained(scratch)
    path = scratch / "config.json"
    config = json.loads(path.read_text())
    parameters = config.pop("rope_parameters")
    config["rope_theta"] = parameters.pop("rope_theta")
    config["rope_scaling"] = parameters
    path.write_text(json.dumps(config))
    tokens = torch.randint(0, 256, (3, 29))
    compare("older names", our_logits(scratch, tokens, scratch), their_logits(theirs, tokens))


def main():
    torch.manual_seed(1)
    torch.set_num_threads(1)
    for name, settings in CASES.items():
        with tempfile.TemporaryDirectory() as scratch:
            check(name, settings, pathlib.Path(scratch))
            if name in TRAINED:
                check_training(name, settings, pathlib.Path(scratch))
    with tempfile.TemporaryDirectory() as scratch:
        check_older_names(pathlib.Path(scratch))
        check_broken_folders(pathlib.Path(scratch))
    check_refusals()
    TOOL.stdin.close()
    assert TOOL.wait() == 0


if __name__ == "__main__":
    main()
