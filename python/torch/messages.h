/// The messages of one rank between processes: a boundary's tensors over a process group that
/// Python made.
///
/// What crosses a boundary is not declared. Of each step's first message over a boundary the sender
/// says ahead how many tensors come, of what shapes and dtypes, and which of them get a gradient
/// back; the step's other messages over it are alike. A gradient looks like the tensor it is of, so
/// nothing is said of it.
#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <utility>
#include <vector>

#include "plait/ir/message.h"
#include "python/torch/work_wait.h"

namespace plait::python {

/// The tensors of a value, contiguous and without graph. A gradient that there is none of is
/// undefined.
struct Crossing {
  std::vector<at::Tensor> tensors;
  std::vector<bool> has_gradient;  ///< by tensor, of an activation: a gradient goes back
};

/// What a boundary's activations look like.
struct CrossingShape {
  struct Tensor {
    std::vector<std::int64_t> sizes;
    at::ScalarType dtype = at::kFloat;
    bool has_gradient = false;
    friend bool operator==(const Tensor&, const Tensor&) = default;
  };
  std::vector<Tensor> tensors;

  static CrossingShape of(const Crossing& crossing);
  /// "float32 [2, 64], int64 [2]".
  std::string text() const;
  friend bool operator==(const CrossingShape&, const CrossingShape&) = default;
};

class Messages {
 public:
  /// Throws if the schedule has more messages than Gloo has tags.
  Messages(c10::intrusive_ptr<c10d::Backend> backend, int stages, int microbatches);

  /// Forgets everything of the step before, also what is under way.
  void begin_step();

  /// Posts. `token`: what the caller names the message by. Throws if a step's activation looks
  /// unlike the first over its boundary.
  void send(const Message& message, Crossing value, int token);
  /// Posts as soon as the value's shape is known.
  void recv(const Message& message, int token);

  /// Waits in `place` until the message is over: true, or false after 25 to 50 ms. Throws what its
  /// work ended with.
  bool wait(int token, WaitPlace& place);
  /// What a message that is over brought.
  Crossing take(int token);
  /// A message that is not over, the oldest; none if all are.
  std::optional<int> oldest() const;

 private:
  struct Transfer {
    Message message;
    bool sends = false;
    bool posted = false;   // a receive's tensors, not its heading
    std::size_t over = 0;  // of its works
    std::vector<c10::intrusive_ptr<c10d::Work>> works;
    Crossing value;
  };
  /// Stage that sends the activation, and the rank that gets it: a schedule may hold two copies.
  using Boundary = std::pair<int, int>;
  struct Known {
    std::optional<CrossingShape> shape;
    at::Tensor heading;                   // under way
    c10::intrusive_ptr<c10d::Work> work;  // of it
  };

  static Boundary boundary_of(const Message& message);
  int tag_of(const Message& message, std::size_t place) const;
  void post_receive(Transfer& transfer, const CrossingShape& shape);
  void say_ahead(Transfer& transfer, const CrossingShape& shape);
  bool wait_for_heading(Known& known, WaitPlace& place);

  c10::intrusive_ptr<c10d::Backend> backend_;
  int stages_;
  int microbatches_;
  int epochs_;  // steps whose tags differ
  int epoch_ = -1;
  std::map<Boundary, Known> known_;
  std::map<int, Transfer> open_;  // by token
};

}  // namespace plait::python
