#include "plait/nn/ops/ops.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "plait/torch/device_cuda.h"
#include "tests/support/segments.h"

namespace plait {
namespace {

using List = std::vector<at::Tensor>;

/// An operation on inputs of any dtype and device; integers stay int64.
struct OpCase {
  std::string name;
  List inputs;
  std::function<List(const Ops&, const List&)> run;
};

/// A permutation of 0 … count-1 that mixes well.
at::Tensor permutation(std::int64_t count) { return at::argsort(numbers({count}, 77)); }

std::vector<OpCase> norm_cases() {
  std::vector<OpCase> cases;
  for (const auto& [rows, columns] : {std::pair(1, 3), std::pair(33, 64), std::pair(100, 200)}) {
    const std::string size = std::to_string(rows) + "x" + std::to_string(columns);
    const at::Tensor x = numbers({rows, columns}, 1), w = numbers({columns}, 2);
    cases.push_back({"rms_norm " + size, {x, w}, [](const Ops& ops, const List& in) {
                       const Ops::Normed normed = ops.rms_norm(in[0], in[1], 1e-5);
                       return List{normed.y, normed.inverse};
                     }});
    cases.push_back({"rms_norm backward " + size,
                     {x, w, numbers({rows, columns}, 3)},
                     [](const Ops& ops, const List& in) {
                       const at::Tensor inverse = ops.rms_norm(in[0], in[1], 1e-5).inverse;
                       return List{ops.rms_norm_input(in[2], in[0], in[1], inverse),
                                   ops.rms_norm_weight(in[2], in[0], in[1], inverse)};
                     }});
    cases.push_back(
        {"add_bias " + size, {x, w}, [c = std::int64_t{columns}](const Ops& ops, const List& in) {
           return List{ops.add_bias(in[0], in[1]), ops.bias_gradient(in[0], c)};
         }});
  }
  cases.push_back(
      {"rotate",
       {numbers({2, 7, 3, 10}, 1), numbers({9, 5}, 2), numbers({9, 5}, 3)},
       [](const Ops& ops, const List& in) {
         return List{ops.rotate(in[0], in[1], in[2], false), ops.rotate(in[0], in[1], in[2], true)};
       }});
  return cases;
}

std::vector<OpCase> router_cases() {
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
                   }});
  return cases;
}

std::vector<OpCase> all_cases() {
  std::vector<OpCase> cases = norm_cases();
  for (OpCase& one : router_cases()) cases.push_back(std::move(one));
  for (const std::int64_t first : {0, 1, 1022, 1'000'003}) {
    const DropMask mask{0x9876543210abcdefULL, (std::uint64_t{5} << 32) | 7, first, 0.3};
    cases.push_back({"masked from " + std::to_string(first),
                     {numbers({13, 9}, 1), numbers({13, 9}, 2)},
                     [mask](const Ops& ops, const List& in) {
                       return List{ops.masked(in[0], in[1], mask), ops.masked({}, in[1], mask)};
                     }});
  }
  return cases;
}

List run(const OpCase& one, const Ops& ops, at::ScalarType type, at::Device device) {
  List inputs;
  for (const at::Tensor& input : one.inputs)
    inputs.push_back(input.to(device, input.is_floating_point() ? type : input.scalar_type()));
  return one.run(ops, inputs);
}

/// Against generic_ops() in float64 on the CPU: `tolerance` of the greatest number, integers equal.
void expect_close_to_reference(const Ops& ops, at::ScalarType type, at::Device device,
                               double tolerance) {
  for (const OpCase& one : all_cases()) {
    SCOPED_TRACE(one.name);
    const List needed = run(one, generic_ops(), at::kDouble, at::kCPU);
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
}

TEST(Ops, TheLoopsAreTheReference) {
  expect_close_to_reference(cpu_ops(), at::kFloat, at::kCPU, 3e-6);
}

TEST(Ops, TorchsFunctionsInFloat32AreTheReference) {
  expect_close_to_reference(generic_ops(), at::kFloat, at::kCPU, 3e-6);
}

TEST(Ops, MasksHaveTheSameBits) {
  for (const OpCase& one : all_cases()) {
    if (!one.name.starts_with("masked")) continue;
    const List left = run(one, cpu_ops(), at::kFloat, at::kCPU);
    const List right = run(one, generic_ops(), at::kFloat, at::kCPU);
    for (std::size_t i = 0; i < left.size(); ++i)
      EXPECT_TRUE(at::equal(left[i], right[i])) << one.name;
  }
}

TEST(Ops, Float32OnTheCpuHasLoops) {
  EXPECT_EQ(&ops_for(at::ones({1})), &cpu_ops());
  EXPECT_EQ(&ops_for(at::ones({1}, at::kDouble)), &generic_ops());
  EXPECT_EQ(&ops_for(at::ones({1}, at::kBFloat16)), &generic_ops());
}

class CudaOps : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const Expected<void> ready = prepare_cuda(); !ready) GTEST_SKIP() << ready.error().text();
  }
};

TEST_F(CudaOps, AreTheReference) {
  expect_close_to_reference(generic_ops(), at::kFloat, cuda_place(0), 3e-6);
}

TEST_F(CudaOps, RepeatBitForBit) {
  for (const OpCase& one : all_cases()) {
    const List first = run(one, generic_ops(), at::kFloat, cuda_place(0));
    for (int again = 0; again < 3; ++again) {
      const List other = run(one, generic_ops(), at::kFloat, cuda_place(0));
      for (std::size_t i = 0; i < first.size(); ++i)
        EXPECT_TRUE(at::equal(first[i], other[i])) << one.name;
    }
  }
}

TEST_F(CudaOps, MasksHaveTheBitsOfTheCpu) {
  for (const OpCase& one : all_cases()) {
    if (!one.name.starts_with("masked")) continue;
    const List left = run(one, cpu_ops(), at::kFloat, at::kCPU);
    const List right = run(one, generic_ops(), at::kFloat, cuda_place(0));
    for (std::size_t i = 0; i < left.size(); ++i)
      EXPECT_TRUE(at::equal(left[i], right[i].cpu())) << one.name;
  }
}

}  // namespace
}  // namespace plait
