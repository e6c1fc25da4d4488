"""Our models against transformers' LlamaForCausalLM and Glm4MoeForCausalLM: same weights and tokens, same
logits to 1e-5.

usage: hf_parity.py MODEL_TOOL
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
import numpy  # noqa: E402
import torch  # noqa: E402
from transformers import Glm4MoeConfig, Glm4MoeForCausalLM, LlamaConfig, LlamaForCausalLM  # noqa: E402

# One process for all cases: loading torch takes longer than what it does.
TOOL = subprocess.Popen([sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
TOLERANCE = 1e-5
MODEL = {LlamaConfig: LlamaForCausalLM, Glm4MoeConfig: Glm4MoeForCausalLM}


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


CASES = {
    "as many heads of keys": config(4, 4, tied=False),
    "grouped queries": config(6, 2, tied=False, theta=500.0),
    "one head of keys, tied": config(4, 1, tied=True),
    "tied, one layer": config(4, 2, tied=True, layers=1, vocab=256),
    "mixture": mixture(),
    "mixture, more of everything": mixture(experts=16, chosen=5, shared=2, theta=500.0),
    "mixture, weights not normalised, tied": mixture(normalise=False, tied=True),
    "mixture, no dense layer": mixture(chosen=1, dense=0),
}


def tool(*words):
    TOOL.stdin.write("\t".join(map(str, words)) + "\n")
    TOOL.stdin.flush()
    assert TOOL.stdout.readline() == "done\n", words


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


def main():
    torch.manual_seed(1)
    torch.set_num_threads(1)
    for name, settings in CASES.items():
        with tempfile.TemporaryDirectory() as scratch:
            check(name, settings, pathlib.Path(scratch))
    TOOL.stdin.close()
    assert TOOL.wait() == 0


if __name__ == "__main__":
    main()
