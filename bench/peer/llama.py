"""The Llama shape in plain torch, cut into pipeline stages; parameters are named as Hugging Face names them."""

import json
import pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn


class Attention(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        hidden = config["hidden_size"]
        self.heads, self.kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        self.size = hidden // self.heads
        self.q_proj = nn.Linear(hidden, self.heads * self.size, bias=False)
        self.k_proj = nn.Linear(hidden, self.kv_heads * self.size, bias=False)
        self.v_proj = nn.Linear(hidden, self.kv_heads * self.size, bias=False)
        self.o_proj = nn.Linear(self.heads * self.size, hidden, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        batch, length, _ = x.shape
        q, k, v = (p(x).view(batch, length, -1, self.size).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        q, k = (t * cos + torch.cat((-t[..., self.size // 2:], t[..., :self.size // 2]), -1) * sin for t in (q, k))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.heads != self.kv_heads)
        return self.o_proj(out.transpose(1, 2).reshape(batch, length, -1))


class Mlp(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        hidden, inner = config["hidden_size"], config["intermediate_size"]
        self.gate_proj = nn.Linear(hidden, inner, bias=False)
        self.up_proj = nn.Linear(hidden, inner, bias=False)
        self.down_proj = nn.Linear(inner, hidden, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        self.self_attn, self.mlp = Attention(config), Mlp(config)
        self.input_layernorm = nn.RMSNorm(config["hidden_size"], config["rms_norm_eps"])
        self.post_attention_layernorm = nn.RMSNorm(config["hidden_size"], config["rms_norm_eps"])

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Stage(nn.Module):
    """Stage `index` of `stages`: an equal share of the layers, the embedding on the first, the head on the last."""

    def __init__(self, config: dict, index: int, stages: int, length: int) -> None:
        super().__init__()
        count = config["num_hidden_layers"]
        first, end = count * index // stages, count * (index + 1) // stages
        inner = nn.Module()
        inner.layers = nn.ModuleDict({str(i): Layer(config) for i in range(first, end)})
        if index == 0:
            inner.embed_tokens = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.lm_head = None
        if index == stages - 1:
            inner.norm = nn.RMSNorm(config["hidden_size"], config["rms_norm_eps"])
            self.lm_head = nn.Linear(config["hidden_size"], config["vocab_size"], bias=False)
        self.model = inner
        size = config["hidden_size"] // config["num_attention_heads"]
        frequencies = 1.0 / config["rope_theta"] ** (torch.arange(0, size, 2).float() / size)
        angles = torch.outer(torch.arange(length).float(), frequencies).repeat(1, 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if hasattr(self.model, "embed_tokens"):
            x = self.model.embed_tokens(x)
        for layer in self.model.layers.values():
            x = layer(x, self.cos, self.sin)
        return self.lm_head(self.model.norm(x)) if self.lm_head is not None else x

    def load(self, folder: pathlib.Path) -> None:
        weights = load_file(folder / "model.safetensors")
        self.load_state_dict({name: weights[name] for name in self.state_dict()})


def loss_of(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def write_random_model(folder: pathlib.Path, config: dict, length: int, seed: int) -> None:
    """A folder that both sides start from."""
    torch.manual_seed(seed)
    model = Stage(config, 0, 1, length)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.02)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(model.state_dict()), folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["LlamaForCausalLM"], "model_type": "llama",
                                                    "hidden_act": "silu", "tie_word_embeddings": False,
                                                    "attention_bias": False, "mlp_bias": False,
                                                    "max_position_embeddings": length}))
