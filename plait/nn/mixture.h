/// A layer with a mixture of experts, as segments: attn, counts, dispatch, mlp, combine, join.
///
/// A token's normed hidden state goes to the k experts that the router chooses, one row each. Rows
/// are exchanged within the expert group, whose members hold n / members experts each. What passes
/// between the segments:
///   attn → counts → dispatch → mlp: residual, normed, rows, weights, inverse, sent, received
///   mlp → combine → join:           sum, rows, weights, inverse, sent, received
/// residual and sum are hidden states, normed has a row a token, rows one a copy. weights are
/// [tokens, k]; inverse says where each copy lies in the rows sorted by expert
/// (nn/mixture_kernels.h). sent are this rank's rows for each expert of the model; received, after
/// `counts`, is what came for each local expert from each member: [members * local]. Integers have
/// no gradient.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "plait/model/partition.h"
#include "plait/nn/mixture_kernels.h"
#include "plait/nn/router_loads.h"
#include "plait/nn/segments.h"

namespace plait {

RouterOptions router_options(const ModelConfig& model);

/// What a routed layer's attention needs beside its parameters.
struct RouterParts {
  int layer = 0;
  at::Tensor bias;  ///< float32 [experts], a buffer
  RouterOptions options;
  std::shared_ptr<RouterLoads> loads;  ///< may be null
};

/// Parameters: those of its attention, then the second norm and the router's matrix.
class RoutedAttentionSegment final : public NamedSegment {
 public:
  RoutedAttentionSegment(std::string name, std::vector<Parameter> parameters, Attention attention,
                         double eps, RouterParts router);
  TensorList forward(const TensorList& inputs, int microbatch) override;

 private:
  Attention attention_;
  std::size_t first_;  ///< of the parameters behind the attention's
  double eps_;
  RouterParts router_;
};

/// The local routed experts on the rows that came, and the shared experts, which are one SwiGLU, on
/// this rank's tokens. Parameters: gate, up, down of the shared experts if there are any, then of
/// each local expert.
class ExpertsSegment final : public NamedSegment {
 public:
  ExpertsSegment(std::string name, std::vector<Parameter> parameters, bool shared, int members,
                 Dropout dropout);
  TensorList forward(const TensorList& inputs, int microbatch) override;

 private:
  at::Tensor run_experts(const at::Tensor& rows, const std::vector<std::int64_t>& loads) const;

  bool shared_;
  int members_;
  std::size_t local_;
  Dropout dropout_;
};

/// The weighted sum of the rows that came back, added to residual and shared experts. It and
/// ExpertsSegment drop what they add by one mask, which is as if their sum were dropped.
class JoinSegment final : public NamedSegment {
 public:
  JoinSegment(std::string name, Dropout dropout);
  TensorList forward(const TensorList& inputs, int microbatch) override;

 private:
  Dropout dropout_;
};

/// The three exchanges of a layer for experts spread over `members`.
std::shared_ptr<Segment> make_counts_segment(std::string name, int members);
/// `token_bound`: the most rows that may come, in multiples of the even share; more are an error of
/// the segment (kRuntime). 0: any number.
std::shared_ptr<Segment> make_dispatch_segment(std::string name, int members,
                                               double token_bound = 0);
std::shared_ptr<Segment> make_combine_segment(std::string name, int members);

}  // namespace plait
