#include "plait/train/shard_memory.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <utility>

#include "plait/model/dtypes.h"
#include "plait/train/shard_layout.h"

namespace plait {
namespace {

constexpr Bytes kNumber = bytes_of(kDtypes.parameter);

using Row = std::pair<int, Group>;  // the stage with which it is reduced, and over which group

int members_of(Group group, const Grid& grid) {
  return group == Group::kData ? grid.data : grid.columns();
}
int member_of(Group group, const Grid& grid, int column) {
  return group == Group::kData ? column / grid.expert : column;
}

/// How many numbers each member owns, of each parameter and of each row.
class Ownership {
 public:
  Ownership(const std::vector<PlannedParameter>& parameters, const Grid& grid,
            const RankProgram& program)
      : parameters_(parameters), owned_(parameters.size()) {
    std::map<Row, std::vector<std::size_t>> rows;
    std::vector<int> order;  // of the stages' scatters
    for (const Instruction& one : program.instructions) {
      if (one.opcode != Opcode::kReduceScatter) continue;
      order.push_back(one.action.stage);
      rows[{one.action.stage, one.group}];
    }
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      const auto last = std::find_if(order.rbegin(), order.rend(), [&](int stage) {
        return parameters[i].stages.contains(stage);
      });
      if (last == order.rend()) continue;
      const auto row = rows.find({*last, parameters[i].holders});
      if (row != rows.end()) row->second.push_back(i);
    }
    for (const auto& [row, in_row] : rows) add_row(row, in_row, grid);
  }

  /// Over the members of the parameter's group; empty: nobody else holds it.
  const std::vector<std::int64_t>& owned(std::size_t parameter) const { return owned_[parameter]; }
  bool is_cut(std::size_t parameter) const { return !owned_[parameter].empty(); }

  /// Of all rows, by column.
  std::int64_t own_numbers(const Grid& grid, int column) const {
    std::int64_t numbers = 0;
    for (const auto& [row, layout] : layouts_)
      numbers += layout.numbers(member_of(row.second, grid, column));
    return numbers;
  }
  /// Of the rows as they are sent, with what fills them up.
  std::int64_t row_numbers() const {
    std::int64_t numbers = 0;
    for (const auto& [row, layout] : layouts_) numbers += layout.row_numbers();
    return numbers;
  }
  std::int64_t chunks() const {
    std::int64_t chunks = 0;
    for (std::size_t i = 0; i < parameters_.size(); ++i)
      chunks += is_cut(i) ? chunk_count(parameters_[i].numbers) : 0;
    return chunks;
  }
  std::int64_t row_numbers(const Row& row) const { return layouts_.at(row).row_numbers(); }

  /// Most numbers that one member owns of the parameters of a group that a stage uses.
  std::int64_t longest(int stage, Group group) const {
    std::vector<std::int64_t> sums;
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      const PlannedParameter& one = parameters_[i];
      if (!is_cut(i) || one.holders != group || !one.stages.contains(stage)) continue;
      sums.resize(owned_[i].size());
      for (std::size_t member = 0; member < sums.size(); ++member)
        sums[member] += owned_[i][member];
    }
    return sums.empty() ? 0 : *std::max_element(sums.begin(), sums.end());
  }

 private:
  void add_row(const Row& row, const std::vector<std::size_t>& in_row, const Grid& grid) {
    const int members = members_of(row.second, grid);
    std::vector<std::int64_t> numels;
    for (const std::size_t i : in_row) {
      numels.push_back(parameters_[i].numbers);
      owned_[i].assign(static_cast<std::size_t>(members), 0);
    }
    const ShardLayout layout(numels, members);
    for (int member = 0; member < members; ++member) {
      for (const Piece& piece : layout.pieces(member))
        owned_[in_row[piece.parameter]][static_cast<std::size_t>(member)] = piece.count;
    }
    layouts_.emplace(row, layout);
  }

  const std::vector<PlannedParameter>& parameters_;
  std::map<Row, ShardLayout> layouts_;
  std::vector<std::vector<std::int64_t>> owned_;  // by parameter and member
};

/// When things of a stage are there, as times of the compute lane: t is its instruction t.
struct Span {
  int stage = 0;
  Group group = Group::kReplicas;
  std::size_t first = 0, last = 0;
};

/// What one program holds, and when.
struct Spans {
  std::vector<Span> values;     ///< whole from an UNSHARD's end to the stage's next RESHARD
  std::vector<Span> gradients;  ///< whole from a stage's first backward to its reduction's end
  std::vector<Span> gathers;    ///< on their way
  std::vector<Span> scatters;
  std::size_t times = 0;
};

bool is_backward(Opcode opcode) {
  return opcode == Opcode::kBackward || opcode == Opcode::kBackwardInput ||
         opcode == Opcode::kBackwardWeight;
}

class SpanFinder {
 public:
  explicit SpanFinder(const RankProgram& program) : program_(program) {
    spans_.times = program.lane(Lane::kCompute).size();
  }

  Spans run() {
    for (const Instruction& one : program_.instructions) {
      if (one.lane == Lane::kCompute) {
        compute(one);
        ++time_;
      } else {
        issue(one);
      }
    }
    for (const auto& [stage, first] : values_) end(values_, stage, spans_.values);
    return std::move(spans_);
  }

 private:
  using Begun = std::map<int, std::size_t>;

  void end(const Begun& begun, int stage, std::vector<Span>& spans) const {
    const auto found = begun.find(stage);
    if (found != begun.end()) spans.push_back({stage, Group::kReplicas, found->second, last()});
  }
  std::size_t last() const { return std::min(time_, spans_.times - 1); }

  void compute(const Instruction& one) {
    const int stage = one.action.stage;
    const std::pair<int, Group> key(stage, one.group);
    if (one.opcode == Opcode::kUnshardEnd) {
      values_.emplace(stage, time_);
      spans_.gathers.push_back({stage, one.group, gathers_[key], time_});
    } else if (one.opcode == Opcode::kReshardFree) {
      end(values_, stage, spans_.values);
      values_.erase(stage);
    } else if (one.opcode == Opcode::kReduceEnd) {
      end(gradients_, stage, spans_.gradients);
      spans_.scatters.push_back({stage, one.group, scatters_[key], time_});
    } else if (is_backward(one.opcode)) {
      gradients_.emplace(stage, time_);
    }
  }

  /// The communication lane may run ahead of the compute lane as far as its waits let it.
  void issue(const Instruction& one) {
    if (one.wait != kNoWait &&
        program_.instructions[static_cast<std::size_t>(one.wait)].lane == Lane::kCompute) {
      const auto& order = program_.lane(Lane::kCompute);
      const auto at = std::lower_bound(order.begin(), order.end(), one.wait) - order.begin();
      issued_ = std::max(issued_, static_cast<std::size_t>(at) + 1);
    }
    const std::pair<int, Group> key(one.action.stage, one.group);
    if (one.opcode == Opcode::kUnshardGather) gathers_[key] = issued_;
    if (one.opcode == Opcode::kReduceScatter) scatters_[key] = issued_;
  }

  const RankProgram& program_;
  Spans spans_;
  std::size_t time_ = 0;    // of the compute lane
  std::size_t issued_ = 0;  // before which the communication lane does not get here
  Begun values_, gradients_;
  std::map<std::pair<int, Group>, std::size_t> gathers_, scatters_;
};

/// Bytes by time.
class Course {
 public:
  explicit Course(std::size_t times) : bytes_(times) {}

  void add(std::size_t first, std::size_t last, Bytes bytes) {
    for (std::size_t time = first; time <= last; ++time) bytes_[time] += bytes;
  }
  /// Once where several of the spans of these stages are.
  void add_union(const std::vector<Span>& spans, const std::set<int>& stages, Bytes bytes) {
    std::vector<bool> covered(bytes_.size());
    for (const Span& span : spans) {
      if (!stages.contains(span.stage)) continue;
      for (std::size_t time = span.first; time <= span.last; ++time) covered[time] = true;
    }
    for (std::size_t time = 0; time < covered.size(); ++time) {
      if (covered[time]) bytes_[time] += bytes;
    }
  }
  Bytes peak() const {
    return bytes_.empty() ? 0 : *std::max_element(bytes_.begin(), bytes_.end());
  }

 private:
  std::vector<Bytes> bytes_;
};

/// Bytes of the parameters that these stages use and no others, and of their gradients.
struct Shared {
  Bytes values = 0, gradients = 0;
};

class PeakOfShards {
 public:
  PeakOfShards(const std::vector<PlannedParameter>& parameters, const Grid& grid,
               const Ownership& ownership, ShardMode mode)
      : grid_(grid), ownership_(ownership), mode_(mode) {
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      if (!ownership.is_cut(i)) continue;
      const PlannedParameter& one = parameters[i];
      Shared& shared = shared_[one.stages];
      shared.values += kNumber * one.numbers + one.rounded;
      shared.gradients += kNumber * one.numbers * one.gradients;
    }
  }

  /// Peaks of what is whole for a while, and of what is on its way. `all_gradients`: those of
  /// earlier rounds are there from the start to the end.
  void add(const RankProgram& program, bool all_gradients, RankMemory& memory) const {
    const Spans spans = SpanFinder(program).run();
    Course whole(spans.times), on_the_way(spans.times);
    for (const auto& [stages, bytes] : shared_) {
      if (mode_ == ShardMode::kParameters) whole.add_union(spans.values, stages, bytes.values);
      if (mode_ < ShardMode::kGradients || program.forward_only || spans.times == 0) continue;
      if (all_gradients) {
        whole.add(0, spans.times - 1, bytes.gradients);
      } else {
        whole.add_union(spans.gradients, stages, bytes.gradients);
      }
    }
    // A gather takes a row of own numbers and brings one of each member; a scatter takes a row for
    // each member and brings one of each.
    for (const Span& span : spans.gathers) {
      const std::int64_t members = members_of(span.group, grid_);
      on_the_way.add(span.first, span.last,
                     kNumber * ownership_.longest(span.stage, span.group) * (1 + members));
    }
    for (const Span& span : spans.scatters) {
      const std::int64_t members = members_of(span.group, grid_);
      on_the_way.add(span.first, span.last,
                     kNumber * ownership_.row_numbers({span.stage, span.group}) * 2 * members);
    }
    memory.whole = std::max(memory.whole, whole.peak());
    memory.reductions = std::max(memory.reductions, on_the_way.peak());
  }

 private:
  const Grid& grid_;
  const Ownership& ownership_;
  ShardMode mode_;
  std::map<std::set<int>, Shared> shared_;  // by the stages that use them
};

}  // namespace

Expected<void> shard_memory(const std::vector<PlannedParameter>& parameters, const Grid& grid,
                            const ProgramsOfRank& programs, RankMemory& memory) {
  const ShardMode mode = programs.training.shard;
  if (mode == ShardMode::kNone) return {};
  const Ownership ownership(parameters, grid, programs.training);
  std::int64_t cut = 0, gradients = 0, own = 0;
  Bytes rounded = 0;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (!ownership.is_cut(i)) continue;
    cut += parameters[i].numbers;
    gradients += parameters[i].numbers * parameters[i].gradients;
    rounded += parameters[i].rounded;
  }
  for (int column = 0; column < grid.columns(); ++column) {
    const std::int64_t numbers = ownership.own_numbers(grid, column);
    if (numbers == 0) {
      return fail(
          ErrorCode::kInvalidInput,
          fmt::format("replica {} of {} would own nothing of rank {}: {} numbers in {} "
                      "chunks are shared out, needed a chunk for each",
                      column, grid.columns(), programs.training.rank, cut, ownership.chunks()),
          "parallel.shard");
    }
    own = std::max(own, numbers);
  }
  if (memory.optimizer > 0) memory.optimizer -= kAdamWMoments * kNumber * (cut - own);
  if (mode >= ShardMode::kGradients) memory.gradients -= kNumber * (gradients - own);
  if (mode == ShardMode::kParameters) {
    memory.start = memory.weights + kNumber * (own + ownership.row_numbers());
    memory.weights -= kNumber * (cut - ownership.row_numbers()) + rounded;
  }
  memory.whole = memory.reductions = 0;
  const PeakOfShards peak(parameters, grid, ownership, mode);
  peak.add(programs.training, programs.rounds > 1, memory);
  peak.add(programs.validation, false, memory);
  return {};
}

}  // namespace plait
