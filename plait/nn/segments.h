/// The segments of a dense model, and what the mixture's segments share with them.
///
/// Hidden states are [sequences, length, hidden] in the dtype that the embedding gives them;
/// parameters are float32, and so are losses and what a router computes. Rows are one a token.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "plait/model/model_config.h"
#include "plait/nn/batch.h"
#include "plait/nn/dropout.h"
#include "plait/nn/kernels.h"
#include "plait/torch/segment.h"

namespace plait {

using TensorList = std::vector<at::Tensor>;

class NamedSegment : public Segment {
 public:
  const std::string& name() const override { return name_; }
  TensorList forward(const TensorList& inputs, int microbatch) override = 0;
  std::vector<Parameter> parameters() const override { return parameters_; }

 protected:
  NamedSegment(std::string name, std::vector<Parameter> parameters);
  const at::Tensor& weight(std::size_t i) const { return parameters_[i].tensor; }
  const Parameter& matrix(std::size_t i) const { return parameters_[i]; }

 private:
  std::string name_;
  std::vector<Parameter> parameters_;
};

/// swiglu(h gate^T, h up^T): what a SwiGLU's last matrix multiplies.
at::Tensor gated_product(const at::Tensor& h, const Parameter& gate, const Parameter& up);

/// rows + left matrix^T, the product dropped if `dropout` drops.
at::Tensor add_product(const at::Tensor& rows, const at::Tensor& left, const Parameter& matrix,
                       const Dropout& dropout, int microbatch);

/// What an attention multiplies with. Those that the architecture lacks are undefined.
struct AttentionWeights {
  /// Finds them among a layer's parameters, by their names (model/names.h).
  explicit AttentionWeights(const std::vector<Parameter>& parameters);

  at::Tensor norm;
  Parameter output;
  struct Projection {
    Parameter matrix;
    at::Tensor bias, norm;  ///< norm: over each head's numbers
  };
  Projection query, key, value;
};

/// x + A(norm(x)), A's output dropped if `dropout` drops.
class Attention {
 public:
  Attention(const ModelConfig& model, const std::vector<Parameter>& parameters,
            std::shared_ptr<const RotaryTable> rotary, Dropout dropout = {});

  /// Hidden states to rows. Throws SegmentError if a sequence is longer than the rotary table.
  at::Tensor add_to(const at::Tensor& x, int microbatch) const;

 private:
  /// [sequences, length, heads, head_size]
  at::Tensor project(const at::Tensor& h, at::IntArrayRef batch,
                     const AttentionWeights::Projection& weights, std::int64_t heads) const;

  AttentionWeights weights_;

  std::int64_t heads_, key_value_heads_, head_size_;
  double eps_;
  std::shared_ptr<const RotaryTable> rotary_;
  Dropout dropout_;
};

/// Parameters: the table. Hidden states of `dtype`.
class EmbeddingSegment final : public NamedSegment {
 public:
  EmbeddingSegment(std::string name, std::vector<Parameter> parameters,
                   std::shared_ptr<BatchSlot> batch, at::ScalarType dtype);
  TensorList forward(const TensorList& inputs, int microbatch) override;

 private:
  std::shared_ptr<BatchSlot> batch_;
  at::ScalarType dtype_;
};

/// Parameters: those of its attention.
class AttentionSegment final : public NamedSegment {
 public:
  AttentionSegment(std::string name, std::vector<Parameter> parameters, Attention attention);
  TensorList forward(const TensorList& inputs, int microbatch) override;

 private:
  Attention attention_;
};

/// Parameters: norm, gate, up, down.
class MlpSegment final : public NamedSegment {
 public:
  MlpSegment(std::string name, std::vector<Parameter> parameters, double eps, Dropout dropout);
  TensorList forward(const TensorList& inputs, int microbatch) override;

 private:
  double eps_;
  Dropout dropout_;
};

/// Parameters: norm, projection.
class HeadSegment final : public NamedSegment {
 public:
  HeadSegment(std::string name, std::vector<Parameter> parameters, double eps,
              std::shared_ptr<BatchSlot> batch);
  TensorList forward(const TensorList& inputs, int microbatch) override;

  /// One row a token.
  at::Tensor logits(const at::Tensor& x) const;

 private:
  double eps_;
  std::shared_ptr<BatchSlot> batch_;
};

}  // namespace plait
