/// Kinds of module whose backward is split in tests.
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <ostream>
#include <vector>

#include "tests/support/segments.h"

namespace plait::kinds {

using List = std::vector<at::Tensor>;

/// y = x * w, which computes both gradients whether asked for or not.
struct GreedyProduct : torch::autograd::Function<GreedyProduct> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& w) {
    context->save_for_backward({x, w});
    return x * w;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    return {gradients[0] * saved[1], (gradients[0] * saved[0]).sum(0)};
  }
};

/// sin(x) that saves its input only and computes the cosine again, as checkpoints do.
struct Recomputed : torch::autograd::Function<Recomputed> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x) {
    context->save_for_backward({x});
    return x.sin();
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    return {gradients[0] * context->get_saved_variables()[0].cos()};
  }
};

inline at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight) {
  return x * (x * x).mean(-1, true).add(1e-5).rsqrt() * weight;
}

inline at::Tensor swiglu(const at::Tensor& x, const List& w, std::size_t first) {
  return at::linear(at::silu(at::linear(x, w[first])) * at::linear(x, w[first + 1]), w[first + 2]);
}

/// Four heads of 4 over two heads of keys and values. x: [2, 5, 16].
inline at::Tensor attention(const at::Tensor& x, const List& w, std::size_t first) {
  const auto heads = [&](std::size_t i, std::int64_t count) {
    return at::linear(x, w[first + i]).view({2, 5, count, 4}).transpose(1, 2);
  };
  const at::Tensor mixed = at::scaled_dot_product_attention(heads(0, 4), heads(1, 2), heads(2, 2),
                                                            {}, 0.0, true, std::nullopt, true);
  return at::linear(mixed.transpose(1, 2).reshape({2, 5, 16}), w[first + 3]);
}

using Shapes = std::vector<std::vector<std::int64_t>>;

struct Kind {
  const char* name;
  Shapes inputs;
  Shapes parameters;
  FunctionSegment::Function function;
  bool splits = true;
};

inline std::ostream& operator<<(std::ostream& out, const Kind& kind) { return out << kind.name; }

inline at::Tensor ids(int microbatch) { return (at::arange(6, at::kLong) * 5 + microbatch) % 7; }

inline std::vector<Kind> elementary_kinds() {
  return {
      {"linear",
       {{4, 8}},
       {{6, 8}, {6}},
       [](const List& x, const List& w, int) -> List { return {at::linear(x[0], w[0], w[1])}; }},
      {"linear without bias",
       {{4, 8}},
       {{6, 8}},
       [](const List& x, const List& w, int) -> List { return {at::linear(x[0], w[0])}; }},
      {"two linears",
       {{4, 8}},
       {{6, 8}, {6}, {3, 6}, {3}},
       [](const List& x, const List& w, int) -> List {
         return {at::linear(at::linear(x[0], w[0], w[1]), w[2], w[3])};
       }},
      {"gelu mlp",
       {{4, 8}},
       {{16, 8}, {16}, {8, 16}, {8}},
       [](const List& x, const List& w, int) -> List {
         return {at::linear(at::gelu(at::linear(x[0], w[0], w[1])), w[2], w[3])};
       }},
      {"swiglu",
       {{2, 3, 8}},
       {{16, 8}, {16, 8}, {8, 16}},
       [](const List& x, const List& w, int) -> List { return {swiglu(x[0], w, 0)}; }},
      {"rms norm",
       {{4, 8}},
       {{8}},
       [](const List& x, const List& w, int) -> List { return {rms_norm(x[0], w[0])}; }},
      {"torch's rms norm",
       {{4, 8}},
       {{8}},
       [](const List& x, const List& w, int) -> List { return {at::rms_norm(x[0], {8}, w[0])}; }},
      {"layer norm",
       {{4, 8}},
       {{8}, {8}},
       [](const List& x, const List& w, int) -> List {
         return {at::layer_norm(x[0], {8}, w[0], w[1])};
       }},
      {"batch norm",
       {{6, 4}},
       {{4}, {4}},
       [](const List& x, const List& w, int) -> List {
         return {at::batch_norm(x[0], w[0], w[1], {}, {}, true, 0.1, 1e-5, false)};
       }},
      {"group norm",
       {{2, 4, 6}},
       {{4}, {4}},
       [](const List& x, const List& w, int) -> List {
         return {at::group_norm(x[0], 2, w[0], w[1])};
       }},
      {"embedding, then linear",
       {},
       {{7, 8}, {5, 8}},
       [](const List&, const List& w, int microbatch) -> List {
         return {at::linear(at::embedding(w[0], ids(microbatch)), w[1])};
       }},
  };
}

inline std::vector<Kind> convolutions_and_products() {
  return {
      {"conv1d",
       {{2, 3, 9}},
       {{4, 3, 3}, {4}},
       [](const List& x, const List& w, int) -> List { return {at::conv1d(x[0], w[0], w[1])}; }},
      {"conv2d",
       {{2, 3, 6, 6}},
       {{4, 3, 3, 3}, {4}},
       [](const List& x, const List& w, int) -> List {
         return {at::conv2d(x[0], w[0], w[1], 1, 1)};
       }},
      {"batched product, parameter left",
       {{3, 4, 5}},
       {{3, 2, 4}},
       [](const List& x, const List& w, int) -> List { return {at::bmm(w[0], x[0])}; }},
      {"batched product, parameter right",
       {{3, 4, 5}},
       {{3, 5, 2}},
       [](const List& x, const List& w, int) -> List { return {at::matmul(x[0], w[0])}; }},
      {"einsum, bilinear",
       {{4, 3}, {4, 5}},
       {{6, 3, 5}},
       [](const List& x, const List& w, int) -> List {
         return {at::einsum("bi,oij,bj->bo", {x[0], w[0], x[1]})};
       }},
  };
}

inline std::vector<Kind> composed_kinds() {
  return {
      {"grouped-query attention",
       {{2, 5, 16}},
       {{16, 16}, {8, 16}, {8, 16}, {16, 16}},
       [](const List& x, const List& w, int) -> List { return {attention(x[0], w, 0)}; }},
      {"residual",
       {{4, 8}},
       {{8, 8}},
       [](const List& x, const List& w, int) -> List {
         return {x[0] + at::linear(at::relu(x[0]), w[0])};
       }},
      {"llama block",
       {{2, 5, 16}},
       {{16}, {16, 16}, {8, 16}, {8, 16}, {16, 16}, {16}, {24, 16}, {24, 16}, {16, 24}},
       [](const List& x, const List& w, int) -> List {
         const at::Tensor h = x[0] + attention(rms_norm(x[0], w[0]), w, 1);
         return {h + swiglu(rms_norm(h, w[5]), w, 6)};
       }},
      {"lstm cell",
       {{4, 6}, {4, 5}, {4, 5}},
       {{20, 6}, {20, 5}, {20}, {20}},
       [](const List& x, const List& w, int) -> List {
         const auto [h, c] = at::lstm_cell(x[0], {x[1], x[2]}, w[0], w[1], w[2], w[3]);
         return {h, c};
       }},
      // The weights are used once a step of the sequence: five cut nodes a parameter, in one chain.
      {"gru over a sequence",
       {{5, 3, 4}, {3, 6}},
       {{18, 4}, {18, 6}, {18}, {18}},
       [](const List& x, const List& w, int) -> List {
         at::Tensor h = x[1];
         for (std::int64_t t = 0; t < 5; ++t) h = at::gru_cell(x[0][t], h, w[0], w[1], w[2], w[3]);
         return {h};
       }},
      {"experts",
       {{6, 8}},
       {{5, 8}, {8, 5}, {5, 8}, {8, 5}},
       [](const List& x, const List& w, int microbatch) -> List {
         at::Tensor sum = at::zeros_like(x[0]);
         for (std::size_t e = 0; e < 2; ++e) {
           const at::Tensor rows =
               at::arange(3, at::kLong) * 2 + (static_cast<int>(e) + microbatch) % 2;
           const at::Tensor some = at::index_select(x[0], 0, rows);
           const at::Tensor done = at::linear(at::silu(at::linear(some, w[2 * e])), w[2 * e + 1]);
           sum = at::index_add(sum, 0, rows, done);
         }
         return {sum};
       }},
      {"weight norm",
       {{4, 8}},
       {{6, 8}, {6, 1}},
       [](const List& x, const List& w, int) -> List {
         return {at::linear(x[0], w[1] * w[0] / w[0].norm(2, 1, true))};
       }},
      {"convolution and attention to a parameter",
       {{2, 4, 8}},
       {{8, 4, 3}, {3, 8}},
       [](const List& x, const List& w, int) -> List {
         const at::Tensor h = at::conv1d(x[0], w[0], {}, 1, 1).transpose(1, 2);
         return {at::softmax(at::matmul(h, w[1].t()), -1)};
       }},
  };
}

inline std::vector<Kind> odd_kinds() {
  return {
      {"several inputs",
       {{4, 8}, {4, 8}, {8}},
       {{8, 8}},
       [](const List& x, const List& w, int) -> List {
         return {at::linear(x[0] * x[1], w[0]) + x[2]};
       }},
      {"several outputs",
       {{4, 8}},
       {{6, 8}, {3, 8}},
       [](const List& x, const List& w, int) -> List {
         const at::Tensor h = at::tanh(x[0]);
         return {at::linear(h, w[0]), at::linear(h, w[1]), h};
       }},
      {"outputs of one node",
       {{4, 8}},
       {{6, 8}},
       [](const List& x, const List& w, int) -> List {
         return at::split(at::linear(x[0], w[0]), 3, 1);
       }},
      {"output that is not contiguous",
       {{4, 8}},
       {{6, 8}},
       [](const List& x, const List& w, int) -> List { return {at::linear(x[0], w[0]).t()}; }},
      {"output that hangs on a parameter only",
       {{4, 8}},
       {{8}},
       [](const List& x, const List& w, int) -> List {
         const at::Tensor scale = w[0].exp();
         return {x[0] * scale, scale};
       }},
      {"parameter along one chain",
       {{4, 8}},
       {{8, 8}},
       [](const List& x, const List& w, int) -> List {
         return {at::linear(at::tanh(at::linear(at::tanh(at::linear(x[0], w[0])), w[0])), w[0])};
       }},
      {"parameter in parallel branches",
       {{4, 8}},
       {{8, 8}},
       [](const List& x, const List& w, int) -> List {
         return {at::linear(x[0].sin(), w[0]) * at::linear(x[0].cos(), w[0]) +
                 at::linear(x[0], w[0])};
       }},
      {"unused parameter",
       {{4, 8}},
       {{8}, {3, 8}},
       [](const List& x, const List& w, int) -> List { return {x[0] * w[0]}; }},
      {"unused input",
       {{4, 8}, {4, 2}},
       {{8}},
       [](const List& x, const List& w, int) -> List { return {x[0] * w[0]}; }},
      {"input that leads nowhere",
       {{4, 8}},
       {{8}},
       [](const List&, const List& w, int) -> List { return {w[0] * 2}; }},
  };
}

inline std::vector<Kind> bare_and_custom_kinds() {
  return {
      {"no parameters",
       {{4, 8}},
       {},
       [](const List& x, const List&, int) -> List { return {at::softmax(x[0], -1)}; }},
      {"identity", {{4, 8}}, {}, [](const List& x, const List&, int) -> List { return {x[0]}; }},
      {"cut node whose child only it holds",
       {{2, 2, 8}},
       {{8, 8}, {8, 8}},
       [](const List& x, const List& w, int) -> List {
         const at::Tensor product = at::linear(x[0], w[0]).tanh().view({-1, 8});
         return {at::addmm(x[0].view({-1, 8}), product, w[1])};
       }},
      {"in place on an intermediate",
       {{4, 8}},
       {{6, 8}, {6}},
       [](const List& x, const List& w, int) -> List {
         return {at::linear(x[0], w[0]).mul_(w[1]).relu_()};
       }},
      {"in place on a part of an intermediate",
       {{4, 8}},
       {{8}},
       [](const List& x, const List& w, int) -> List {
         at::Tensor h = x[0].clone();
         h.narrow(0, 1, 2).mul_(w[0]);
         return {h};
       },
       false},
      {"custom function of a parameter",
       {{4, 8}},
       {{8}, {3, 8}},
       [](const List& x, const List& w, int) -> List {
         return {at::linear(GreedyProduct::apply(x[0], w[0]), w[1])};
       },
       false},
      {"recomputing function between linears",
       {{4, 8}},
       {{6, 8}, {3, 6}},
       [](const List& x, const List& w, int) -> List {
         return {at::linear(Recomputed::apply(at::linear(x[0], w[0])), w[1])};
       }},
  };
}

inline std::vector<Kind> all_kinds() {
  std::vector<Kind> all = elementary_kinds();
  for (const std::vector<Kind>& more :
       {convolutions_and_products(), composed_kinds(), odd_kinds(), bare_and_custom_kinds()}) {
    all.insert(all.end(), more.begin(), more.end());
  }
  return all;
}

}  // namespace plait::kinds
