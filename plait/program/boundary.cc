#include "plait/program/boundary.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "plait/base/check.h"
#include "plait/base/numbers_of.h"

namespace plait {
Bytes TensorSpec::bytes() const { return bytes_of(dtype) * numbers_of(sizes); }

std::string TensorSpec::text() const {
  if (dtype == Dtype::kNone) return "no tensor";
  return fmt::format("{} [{}]", info(dtype).name, fmt::join(sizes, ", "));
}

std::string print_spec(const ValueSpec& spec) {
  if (spec.empty()) return "nothing";
  std::string text;
  for (const TensorSpec& tensor : spec) text += (text.empty() ? "" : ", ") + tensor.text();
  return text;
}

Boundary::Boundary(ValueSpec of_activation) : activation(std::move(of_activation)) {
  for (const TensorSpec& tensor : activation)
    gradient.push_back(info(tensor.dtype).has_gradient ? tensor : TensorSpec{});
}

const ValueSpec& spec_of(const Boundaries& boundaries, const Message& message) {
  static const ValueSpec none;
  if (boundaries.empty()) return none;
  const auto which = static_cast<std::size_t>(boundary_of(message));
  PLAIT_CHECK(which < boundaries.size(), "a message crosses a boundary between two stages");
  const Boundary& boundary = boundaries[which];
  return message.direction == Direction::kForward ? boundary.activation : boundary.gradient;
}

Expected<void> check_value(const Boundaries& boundaries, const Message& message,
                           const ValueSpec& found) {
  if (boundaries.empty()) return {};
  const ValueSpec& needed = spec_of(boundaries, message);
  if (found == needed) return {};
  const int boundary = boundary_of(message);
  const std::string where =
      fmt::format("{} of stage {}, micro-batch {}",
                  message.direction == Direction::kForward ? "output" : "input gradient",
                  message.sender_stage, message.microbatch);
  for (std::size_t i = 0; i < std::max(found.size(), needed.size()); ++i) {
    const TensorSpec nothing;
    const TensorSpec& one = i < found.size() ? found[i] : nothing;
    const TensorSpec& other = i < needed.size() ? needed[i] : nothing;
    if (one == other) continue;
    return fail(ErrorCode::kRuntime,
                fmt::format("tensor {} of {} is {}, the boundary between stages {} and {} needs {}",
                            i, found.size(), one.text(), boundary, boundary + 1, other.text()),
                where);
  }
  return fail(ErrorCode::kRuntime,
              fmt::format("found {} tensors, the boundary between stages {} and {} needs {}",
                          found.size(), boundary, boundary + 1, needed.size()),
              where);
}

}  // namespace plait
