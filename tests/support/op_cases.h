/// The operations of plait/nn/ops/ops.h on inputs, and their comparison with float64.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "plait/nn/ops/ops.h"
#include "tests/support/segments.h"

namespace plait::op_cases {

using List = std::vector<at::Tensor>;

/// An operation on inputs of any dtype and device; integers stay int64.
struct OpCase {
  std::string name;
  List inputs;
  std::function<List(const Ops&, const List&)> run;
  /// Which inputs are hidden states; in bfloat16 all others stay float32.
  std::vector<std::size_t> hidden = {};
};

/// A permutation of 0 … count-1 that mixes well.
inline at::Tensor permutation(std::int64_t count) { return at::argsort(numbers({count}, 77)); }

inline std::vector<OpCase> norm_cases() {
  std::vector<OpCase> cases;
  for (const auto& [rows, columns] : {std::pair(1, 3), std::pair(33, 64), std::pair(100, 200)}) {
    const std::string size = std::to_string(rows) + "x" + std::to_string(columns);
    const at::Tensor x = numbers({rows, columns}, 1), w = numbers({columns}, 2);
    cases.push_back({"rms_norm " + size,
                     {x, w},
                     [](const Ops& ops, const List& in) {
                       const Ops::Normed normed = ops.rms_norm(in[0], in[1], 1e-5);
                       return List{normed.y, normed.inverse};
                     },
                     {0}});
    cases.push_back({"rms_norm backward " + size,
                     {x, w, numbers({rows, columns}, 3)},
                     [](const Ops& ops, const List& in) {
                       const at::Tensor inverse = ops.rms_norm(in[0], in[1], 1e-5).inverse;
                       return List{ops.rms_norm_input(in[2], in[0], in[1], inverse),
                                   ops.rms_norm_weight(in[2], in[0], in[1], inverse)};
                     },
                     {0, 2}});
    cases.push_back({"add_bias " + size,
                     {x, w},
                     [c = std::int64_t{columns}](const Ops& ops, const List& in) {
                       return List{ops.add_bias(in[0], in[1]), ops.bias_gradient(in[0], c)};
                     },
                     {0}});
  }
  cases.push_back({"swiglu",
                   {numbers({37, 19}, 1) * 3, numbers({37, 19}, 2), numbers({37, 19}, 3)},
                   [](const Ops& ops, const List& in) {
                     return List{ops.swiglu(in[0], in[1]), ops.swiglu_gate(in[2], in[0], in[1]),
                                 ops.swiglu_up(in[2], in[0])};
                   },
                   {0, 1, 2}});
  cases.push_back(
      {"rotate",
       {numbers({2, 7, 3, 10}, 1), numbers({9, 5}, 2), numbers({9, 5}, 3)},
       [](const Ops& ops, const List& in) {
         return List{ops.rotate(in[0], in[1], in[2], false), ops.rotate(in[0], in[1], in[2], true)};
       },
       {0}});
  return cases;
}

inline std::vector<OpCase> router_cases() {
  std::vector<OpCase> cases;
  for (const bool softmax : {false, true}) {
    for (const bool normalise : {false, true}) {
      const RouterOptions options{softmax, 3, normalise, 2.5, 0.5};
      const at::Tensor scores = at::sigmoid(numbers({17, 8}, 1) * 3);
      cases.push_back(
          {"router",
           {scores, numbers({8}, 2), numbers({17, 3}, 3)},
           [options](const Ops& ops, const List& in) {
             const at::Tensor chosen = ops.choose(in[0], in[1], 3);
             const Ops::Places places = ops.place(chosen, 8);
             return List{chosen, places.inverse, places.loads, ops.weigh(in[0], chosen, options),
                         ops.router_gradient(in[2], in[0], chosen, places.loads, options)};
           }});
    }
  }
  cases.push_back({"rows",
                   {numbers({11, 6}, 1), numbers({44, 6}, 2), numbers({11, 4}, 3), permutation(44)},
                   [](const Ops& ops, const List& in) {
                     return List{ops.move_rows(in[1], in[3], false),
                                 ops.move_rows(in[1], in[3], true),
                                 ops.copy_rows(in[0], in[3]),
                                 ops.sum_rows(in[1], in[3], 11),
                                 ops.add_weighted_rows(in[0], in[1], in[2], in[3]),
                                 ops.spread_rows(in[0], in[2], in[3]),
                                 ops.row_products(in[0], in[1], in[2], in[3])};
                   },
                   {0, 1}});
  return cases;
}

inline std::vector<OpCase> all_cases() {
  std::vector<OpCase> cases = norm_cases();
  for (OpCase& one : router_cases()) cases.push_back(std::move(one));
  for (const std::int64_t first : {0, 1, 1022, 1'000'003}) {
    const DropMask mask{0x9876543210abcdefULL, (std::uint64_t{5} << 32) | 7, first, 0.3};
    cases.push_back({"masked from " + std::to_string(first),
                     {numbers({13, 9}, 1), numbers({13, 9}, 2)},
                     [mask](const Ops& ops, const List& in) {
                       return List{ops.masked(in[0], in[1], mask), ops.masked({}, in[1], mask)};
                     },
                     {0, 1}});
  }
  return cases;
}

/// In the dtypes that the model would have with hidden states of `type`.
inline List inputs_of(const OpCase& one, at::ScalarType type) {
  const at::ScalarType other = type == at::kBFloat16 ? at::kFloat : type;
  List inputs;
  for (std::size_t i = 0; i < one.inputs.size(); ++i) {
    const bool hidden = std::ranges::find(one.hidden, i) != one.hidden.end();
    const at::Tensor& input = one.inputs[i];
    inputs.push_back(input.is_floating_point() ? input.to(hidden ? type : other) : input);
  }
  return inputs;
}

inline List run(const OpCase& one, const Ops& ops, at::ScalarType type, at::Device device) {
  List inputs = inputs_of(one, type);
  for (at::Tensor& input : inputs) input = input.to(device);
  return one.run(ops, inputs);
}

/// generic_ops() in float64 on the CPU, on the same numbers.
inline List reference(const OpCase& one, at::ScalarType type) {
  List inputs = inputs_of(one, type);
  for (at::Tensor& input : inputs)
    if (input.is_floating_point()) input = input.to(at::kDouble);
  return one.run(generic_ops(), inputs);
}

/// Against the reference: `tolerance` of the greatest number, integers equal.
inline void expect_close(const OpCase& one, const Ops& ops, at::ScalarType type, at::Device device,
                         double tolerance) {
  SCOPED_TRACE(one.name);
  const List needed = reference(one, type);
  const List found = run(one, ops, type, device);
  ASSERT_EQ(found.size(), needed.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    ASSERT_EQ(found[i].sizes(), needed[i].sizes()) << "result " << i;
    ASSERT_EQ(found[i].is_floating_point(), needed[i].is_floating_point()) << "result " << i;
    ASSERT_EQ(found[i].device(), device) << "result " << i;
    const at::Tensor right = needed[i].to(at::kDouble);
    const double error = (found[i].cpu().to(at::kDouble) - right).abs().max().item<double>();
    const double most =
        found[i].is_floating_point() ? tolerance * right.abs().max().item<double>() : 0.0;
    EXPECT_LE(error, most) << "result " << i;
  }
}

inline void expect_close_to_reference(const Ops& ops, at::ScalarType type, at::Device device,
                                      double tolerance) {
  for (const OpCase& one : all_cases()) expect_close(one, ops, type, device, tolerance);
}

/// Rows wider than a warp takes, and sums over many of them.
inline std::vector<OpCase> wide_norm_cases() {
  std::vector<OpCase> cases;
  for (const auto& [rows, columns] : {std::pair(3, 1537), std::pair(100, 33)}) {
    cases.push_back(
        {"norm of " + std::to_string(rows) + "x" + std::to_string(columns),
         {numbers({rows, columns}, 1), numbers({columns}, 2), numbers({rows, columns}, 3)},
         [](const Ops& ops, const List& in) {
           const Ops::Normed normed = ops.rms_norm(in[0], in[1], 1e-5);
           return List{normed.y, ops.rms_norm_input(in[2], in[0], in[1], normed.inverse),
                       ops.rms_norm_weight(in[2], in[0], in[1], normed.inverse)};
         },
         {0, 2}});
  }
  return cases;
}

/// Two roundings to bfloat16's eight bits, and a little of sums.
inline constexpr double kBFloat16Tolerance = 0.006;

}  // namespace plait::op_cases
