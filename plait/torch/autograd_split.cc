#include "plait/torch/autograd_split.h"

#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>
#include <fmt/core.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>

namespace plait {

namespace {

using torch::autograd::Edge;
using torch::autograd::edge_list;
using torch::autograd::Engine;
using torch::autograd::Node;
using Gradients = std::vector<at::Tensor>;

}  // namespace

// Outputs are kept as edges, not as tensors: what no node saved is freed with the message.
struct SavedSegment::State {
  /// An input as the segment saw it. Only its accumulator lies in the graph.
  struct Leaf {
    at::Tensor tensor;
    std::uint32_t version = 0;
  };
  std::vector<Leaf> inputs;
  edge_list roots;  ///< one per output; not valid where the output has no graph
};

struct SavedWeight::State {
  edge_list roots;
  Gradients gradients;  ///< one per root, defined
};

SavedSegment::SavedSegment() = default;
SavedSegment::SavedSegment(SavedSegment&&) noexcept = default;
SavedSegment& SavedSegment::operator=(SavedSegment&&) noexcept = default;
SavedSegment::~SavedSegment() = default;

SavedWeight::SavedWeight() = default;
SavedWeight::SavedWeight(SavedWeight&&) noexcept = default;
SavedWeight& SavedWeight::operator=(SavedWeight&&) noexcept = default;
SavedWeight::~SavedWeight() = default;

Bytes SavedWeight::bytes() const {
  Bytes sum = 0;
  if (state == nullptr) return sum;
  for (const at::Tensor& gradient : state->gradients) sum += static_cast<Bytes>(gradient.nbytes());
  return sum;
}

namespace {

using Leaf = SavedSegment::State::Leaf;

bool has_gradient(const at::Tensor& tensor) {
  return tensor.is_floating_point() || tensor.is_complex();
}

void check_versions(const std::vector<Leaf>& inputs, const char* when) {
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].tensor._version() == inputs[i].version) continue;
    throw SegmentError(ErrorCode::kRuntime,
                       fmt::format("input {} was changed in place {}; what crosses a boundary must "
                                   "stay as it is",
                                   i, when));
  }
}

std::vector<Leaf> make_leaves(const std::vector<at::Tensor>& inputs, bool for_backward) {
  std::vector<Leaf> leaves;
  leaves.reserve(inputs.size());
  for (const at::Tensor& input : inputs) {
    at::Tensor leaf = input.detach();
    if (for_backward && has_gradient(leaf)) leaf.set_requires_grad(true);
    const auto version = static_cast<std::uint32_t>(leaf._version());
    leaves.push_back({std::move(leaf), version});
  }
  return leaves;
}

/// One of torch's own operations, which computes no more than what it is asked for.
bool is_of_torch(Node* node) {
  try {
    return node->is_traceable();
  } catch (const std::exception&) {
    // A custom function of Python whose class does not say: since torch 2 none does.
    return false;
  }
}

/// The graph between the roots and the leaves, seen from I and W.
///
/// A node reaches if an input's accumulator can be reached from it. A node that reaches and has an
/// edge to one that does not is a cut node: there the way to a parameter branches off.
class Walk {
 public:
  Walk(const edge_list& roots, const std::vector<Leaf>& inputs) {
    for (const Leaf& input : inputs) {
      if (!input.tensor.requires_grad()) continue;
      const auto accumulator = torch::autograd::impl::try_get_grad_accumulator(input.tensor);
      if (accumulator) add(accumulator.get(), true);
    }
    for (const Edge& root : roots) {
      if (root.is_valid()) visit(root.function.get());
    }
  }

  bool reaches(const Edge& edge) const { return visits_[index_.at(edge.function.get())].reaches; }

  /// What torch.compile made of a piece is one node that frees what it saved when it runs: it
  /// cannot run for I and keep its graph for W.
  bool holds_compiled() const {
    return std::any_of(visits_.begin(), visits_.end(), [](const Visit& visit) {
      return visit.reaches && !visit.node->next_edges().empty() && !is_of_torch(visit.node) &&
             visit.node->name().find("CompiledFunction") != std::string::npos;
    });
  }

  /// In the order they were found. A root that does not reach is W's, but not a cut node.
  std::vector<Node*> cut_nodes() const {
    std::vector<Node*> cuts;
    for (const Visit& visit : visits_) {
      if (!visit.reaches) continue;
      for (const Edge& edge : visit.node->next_edges()) {
        if (edge.is_valid() && !reaches(edge)) {
          cuts.push_back(visit.node);
          break;
        }
      }
    }
    return cuts;
  }

  /// Leaves of the graph what W runs from `cuts`: their edges towards the inputs go, and the saved
  /// tensors of all other nodes that reach.
  void cut(const std::vector<Node*>& cuts) {
    // First what needs the nodes: an edge may be all that holds one.
    const std::unordered_set<Node*> kept(cuts.begin(), cuts.end());
    for (const Visit& visit : visits_) {
      if (visit.reaches && !kept.contains(visit.node)) visit.node->release_variables();
    }
    for (Node* node : cuts) {
      for (Edge& edge : node->next_edges()) {
        if (edge.is_valid() && reaches(edge)) edge = Edge();
      }
    }
  }

 private:
  struct Visit {
    Node* node;
    bool reaches;
  };
  struct Frame {
    std::size_t visit;
    std::size_t next = 0;
  };

  std::size_t add(Node* node, bool reaches) {
    index_.emplace(node, visits_.size());
    visits_.push_back({node, reaches});
    return visits_.size() - 1;
  }

  // Depth first with a stack of its own: recurrent segments make graphs thousands of nodes deep.
  void visit(Node* root) {
    if (index_.contains(root)) return;
    std::vector<Frame> stack{{add(root, false)}};
    while (!stack.empty()) {
      Frame& frame = stack.back();
      const edge_list& edges = visits_[frame.visit].node->next_edges();
      if (frame.next == edges.size()) {
        const bool reached = visits_[frame.visit].reaches;
        stack.pop_back();
        if (reached && !stack.empty()) visits_[stack.back().visit].reaches = true;
        continue;
      }
      Node* next = edges[frame.next++].function.get();
      if (next == nullptr) continue;
      const auto found = index_.find(next);
      if (found == index_.end()) {
        stack.push_back({add(next, false)});
      } else if (visits_[found->second].reaches) {
        visits_[frame.visit].reaches = true;
      }
    }
  }

  std::vector<Visit> visits_;
  std::unordered_map<Node*, std::size_t> index_;
};

/// A cut node runs twice, for its inputs and for its parameters. Torch's own operations then
/// compute only the half that is asked for. Custom functions and in-place copies into views may
/// compute everything twice, or change state; hooks would run twice.
bool can_run_twice(Node* node) {
  return is_of_torch(node) && node->pre_hooks().empty() && node->tensor_pre_hooks().empty() &&
         node->retains_grad_hooks().empty() && node->post_hooks().empty();
}

/// The roots that have a gradient, for the engine.
void keep_defined(edge_list& roots, Gradients& gradients) {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < roots.size(); ++i) {
    if (!roots[i].is_valid() || !gradients[i].defined()) continue;
    if (kept != i) {
      roots[kept] = std::move(roots[i]);
      gradients[kept] = std::move(gradients[i]);
    }
    ++kept;
  }
  roots.resize(kept);
  gradients.resize(kept);
}

const at::Tensor& defined_output(const std::vector<at::Tensor>& outputs, std::size_t i) {
  if (outputs[i].defined()) return outputs[i];
  throw SegmentError(ErrorCode::kRuntime, fmt::format("output {} is undefined", i));
}

at::Tensor boundary_gradient(const Leaf& input, const at::Tensor& gradient) {
  if (!input.tensor.requires_grad()) return {};
  if (!gradient.defined()) return at::zeros_like(input.tensor.detach());
  return gradient.contiguous();
}

void check_gradients(const SavedSegment::State& state, const Gradients& gradients) {
  if (gradients.size() == state.roots.size()) return;
  throw SegmentError(ErrorCode::kRuntime,
                     fmt::format("got {} output gradients, needs {}, one per output",
                                 gradients.size(), state.roots.size()));
}

Gradients whole_backward(SavedSegment::State& state, Gradients output_gradients) {
  keep_defined(state.roots, output_gradients);
  if (!state.roots.empty()) {
    Engine::get_default_engine().execute(state.roots, output_gradients, /*keep_graph=*/false,
                                         /*create_graph=*/false, /*accumulate_grad=*/true);
  }
  Gradients input_gradients;
  input_gradients.reserve(state.inputs.size());
  for (Leaf& input : state.inputs) {
    input_gradients.push_back(boundary_gradient(input, input.tensor.grad()));
  }
  return input_gradients;
}

auto handle(Node* node) { return node->getptr(); }

/// Runs the engine from the outputs to the edges I captures: each input's accumulator, then every
/// slot of every cut node. Outputs that no input leads to are W's alone: they go to `weight`.
Gradients run_input_half(const SavedSegment::State& state, Gradients output_gradients,
                         const Walk& walk, const std::vector<Node*>& cuts,
                         SavedWeight::State& weight) {
  edge_list edges;
  for (const Leaf& input : state.inputs) {
    if (!input.tensor.requires_grad()) continue;
    edges.push_back(torch::autograd::impl::gradient_edge(input.tensor));
  }
  for (Node* cut : cuts) {
    for (std::uint32_t slot = 0; slot < cut->num_inputs(); ++slot) {
      edges.emplace_back(handle(cut), slot);
    }
  }
  edge_list roots;
  Gradients gradients;
  for (std::size_t i = 0; i < state.roots.size(); ++i) {
    const bool reaches = walk.reaches(state.roots[i]);
    (reaches ? roots : weight.roots).push_back(state.roots[i]);
    (reaches ? gradients : weight.gradients).push_back(std::move(output_gradients[i]));
  }
  if (roots.empty()) return Gradients(edges.size());
  return Engine::get_default_engine().execute(roots, gradients, /*keep_graph=*/true,
                                              /*create_graph=*/false, /*accumulate_grad=*/false,
                                              edges);
}

}  // namespace

SegmentForward run_forward(Segment& segment, const std::vector<at::Tensor>& inputs, int microbatch,
                           bool for_backward) {
  const c10::AutoGradMode mode(for_backward);
  std::vector<Leaf> leaves = make_leaves(inputs, for_backward);
  std::vector<at::Tensor> seen;
  seen.reserve(leaves.size());
  for (const Leaf& leaf : leaves) seen.push_back(leaf.tensor);
  std::vector<at::Tensor> outputs = segment.forward(seen, microbatch);
  check_versions(leaves, "by the segment");

  if (for_backward) return save_forward(seen, outputs);
  SegmentForward result;
  result.outputs.reserve(outputs.size());
  for (std::size_t i = 0; i < outputs.size(); ++i)
    result.outputs.push_back(defined_output(outputs, i).contiguous().detach());
  return result;
}

SegmentForward save_forward(const std::vector<at::Tensor>& leaves,
                            const std::vector<at::Tensor>& outputs) {
  SegmentForward result;
  result.outputs.reserve(outputs.size());
  auto state = std::make_unique<SavedSegment::State>();
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const at::Tensor boundary = defined_output(outputs, i).contiguous();
    state->roots.push_back(boundary.requires_grad() ? torch::autograd::impl::gradient_edge(boundary)
                                                    : Edge());
    result.outputs.push_back(boundary.detach());
  }
  state->inputs.reserve(leaves.size());
  for (const at::Tensor& leaf : leaves)
    state->inputs.push_back({leaf, static_cast<std::uint32_t>(leaf._version())});
  result.saved.state = std::move(state);
  return result;
}

std::vector<at::Tensor> backward(SavedSegment saved, std::vector<at::Tensor> output_gradients) {
  check_gradients(*saved.state, output_gradients);
  check_versions(saved.state->inputs, "between forward and backward");
  return whole_backward(*saved.state, std::move(output_gradients));
}

SegmentBackwardInput backward_input(SavedSegment saved, std::vector<at::Tensor> output_gradients) {
  SavedSegment::State& state = *saved.state;
  check_gradients(state, output_gradients);
  check_versions(state.inputs, "between forward and backward");
  keep_defined(state.roots, output_gradients);
  Walk walk(state.roots, state.inputs);
  const std::vector<Node*> cuts = walk.cut_nodes();
  SegmentBackwardInput result;
  if (!std::all_of(cuts.begin(), cuts.end(), can_run_twice) || walk.holds_compiled()) {
    result.input_gradients = whole_backward(state, std::move(output_gradients));
    result.whole = true;
    return result;
  }

  auto weight = std::make_unique<SavedWeight::State>();
  Gradients captured = run_input_half(state, std::move(output_gradients), walk, cuts, *weight);
  std::size_t next = 0;
  for (const Leaf& input : state.inputs) {
    at::Tensor gradient;
    if (input.tensor.requires_grad()) gradient = std::move(captured[next++]);
    result.input_gradients.push_back(boundary_gradient(input, gradient));
  }
  for (Node* cut : cuts) {
    for (std::uint32_t slot = 0; slot < cut->num_inputs(); ++slot, ++next) {
      weight->roots.emplace_back(handle(cut), slot);
      weight->gradients.push_back(std::move(captured[next]));
    }
  }
  // Without the edges below the cuts one run over all of them together counts nothing twice, and
  // gradients that meet in a parameter add in the order of the whole backward.
  walk.cut(cuts);
  keep_defined(weight->roots, weight->gradients);
  if (!weight->roots.empty()) result.saved.state = std::move(weight);
  return result;
}

void backward_weight(SavedWeight saved) {
  if (saved.state == nullptr) return;
  Engine::get_default_engine().execute(saved.state->roots, saved.state->gradients,
                                       /*keep_graph=*/false, /*create_graph=*/false,
                                       /*accumulate_grad=*/true);
}

}  // namespace plait
