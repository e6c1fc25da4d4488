"""A DeepSeek-V3-like mixture of experts in plain torch, cut into pipeline stages, its experts spread over an expert group.

As plait's model of the same job: Llama's attention, sigmoid scores, the chosen ones' weights divided by their sum, one shared expert.
Dispatch and combine are all_to_all_single with uneven splits, in an autograd function whose backward is the mirror exchange.
"""

import pathlib
import sys

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "peer"))
import llama  # noqa: E402


class Exchanger:
    """Exchanges rows within the group, and keeps each call's splits so that a step can be replayed.

    Modes: "real"; "copy", where a call moves its own rows into a buffer of the shape that the real step's same call got.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group, self.rank = group, dist.get_rank(group)
        self.mode = "real"
        self.calls: list[tuple[list[int], list[int], tuple[int, ...], torch.dtype]] = []
        self.came: list[torch.Tensor] = []  # the counts that came, in order
        self.begin_step()

    def begin_step(self) -> None:
        self.rows_leaving, self.next_counts = 0, 0
        if self.mode == "real":
            self.calls, self.came = [], []

    def exchange(self, x: torch.Tensor, send: list[int], receive: list[int]) -> torch.Tensor:
        out = x.new_empty((sum(receive), *x.shape[1:]))
        if self.mode == "copy":
            both = min(len(x), len(out))
            out[:both] = x[:both]
            out[both:] = 0
            return out
        dist.all_to_all_single(out, x.contiguous(), receive, send, group=self.group)
        self.calls.append((send, receive, tuple(x.shape[1:]), x.dtype))
        return out

    def exchange_counts(self, sent: torch.Tensor) -> torch.Tensor:
        if self.mode == "copy":
            self.next_counts += 1
            return self.came[self.next_counts - 1]
        even = [len(sent) // self.group.size()] * self.group.size()
        self.came.append(self.exchange(sent, even, even))
        return self.came[-1]

    def exchange_rows(self, rows: torch.Tensor, send: list[int], receive: list[int]) -> torch.Tensor:
        self.rows_leaving += sum(send) - send[self.rank]
        return self.exchange(rows, send, receive)

    def replay(self) -> None:
        """The last real step's exchanges, one after the other, and nothing else."""
        for send, receive, shape, dtype in self.calls:
            dist.all_to_all_single(torch.empty((sum(receive), *shape), dtype=dtype), torch.zeros((sum(send), *shape), dtype=dtype),
                                   receive, send, group=self.group)


class Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows: torch.Tensor, send: list[int], receive: list[int], exchanger: Exchanger) -> torch.Tensor:
        ctx.splits, ctx.exchanger = (send, receive), exchanger
        return exchanger.exchange_rows(rows, send, receive)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        send, receive = ctx.splits
        return ctx.exchanger.exchange_rows(gradient, receive, send), None, None, None


class Mixture(nn.Module):
    def __init__(self, config: dict, exchanger: Exchanger) -> None:
        super().__init__()
        self.exchanger, self.members = exchanger, exchanger.group.size()
        self.experts_number, self.chosen = config["n_routed_experts"], config["num_experts_per_tok"]
        self.local = self.experts_number // self.members
        inner = {**config, "intermediate_size": config["moe_intermediate_size"]}
        self.gate = nn.Linear(config["hidden_size"], self.experts_number, bias=False)
        self.experts = nn.ModuleList(llama.Mlp(inner) for _ in range(self.local))
        self.shared = llama.Mlp(inner)

    def run_experts(self, rows: torch.Tensor, came: torch.Tensor) -> torch.Tensor:
        """Rows that came lie by source, then by expert."""
        expert = torch.arange(self.local).repeat(self.members).repeat_interleave(came)
        places = torch.argsort(expert, stable=True)
        parts = rows.index_select(0, places).split(came.view(self.members, self.local).sum(0).tolist())
        done = torch.cat([one(part) for one, part in zip(self.experts, parts)])
        return done.index_select(0, torch.argsort(places))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        scores = torch.sigmoid(self.gate(z))
        weights, chosen = scores.topk(self.chosen, dim=-1)
        weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
        order = torch.argsort(chosen.flatten(), stable=True)
        sent = torch.bincount(chosen.flatten(), minlength=self.experts_number)
        came = self.exchanger.exchange_counts(sent)
        send, receive = (counts.view(self.members, self.local).sum(1).tolist() for counts in (sent, came))
        rows = Rows.apply(z.index_select(0, order // self.chosen), send, receive, self.exchanger)
        rows = Rows.apply(self.run_experts(rows, came), receive, send, self.exchanger)
        rows = rows.index_select(0, torch.argsort(order)).view(len(z), self.chosen, -1)
        return self.shared(z) + (rows * weights.unsqueeze(-1)).sum(1)


class Layer(llama.Layer):
    def __init__(self, config: dict, exchanger: Exchanger) -> None:
        super().__init__(config)
        self.mlp = Mixture(config, exchanger)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x).flatten(0, 1)).view(x.shape)


class Stage(llama.Stage):
    """Weights as plait draws them: deviation 0.02, those that write the residual divided by sqrt(2 layers)."""

    def __init__(self, config: dict, index: int, stages: int, length: int, exchanger: Exchanger) -> None:
        super().__init__(config, index, stages, length)
        self.model.layers = nn.ModuleDict({name: Layer(config, exchanger) for name in self.model.layers})
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                ends = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(parameter, std=0.02 / (2 * config["num_hidden_layers"]) ** 0.5 if ends else 0.02)


loss_of = llama.loss_of
