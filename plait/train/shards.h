/// What a rank holds where replicas share out what they have in common (docs/shard.md).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "plait/nn/parameter_store.h"
#include "plait/program/rank_program.h"
#include "plait/program/shard_mode.h"
#include "plait/runtime/reducer.h"
#include "plait/torch/memory.h"
#include "plait/train/reduce.h"
#include "plait/train/trained_slice.h"

namespace plait {

/// Errors (kInvalidInput): a parameter that cannot be cut. It must be of float32, and alone in its
/// storage, as memory is given back by storages.
Expected<void> check_cuts(const ReducedRows& rows);

/// The storage of one column of a rank: which numbers of each parameter it owns, and what of the
/// rest is here.
///
///   mode          parameters                      gradients
///   optimizer     whole, own slices are views     whole, own slices are views
///   gradients     whole, own slices are views     whole from a stage's first backward of a step to
///                                                 its reduction; own slices always
///   parameters    whole from UNSHARD to RESHARD;  as in gradients
///                 own slices always
///
/// Parameters in no row have no replicas and are left alone. Not thread-safe, but scatters of
/// different rows and what the compute lane does may overlap in time.
class ParameterShards {
 public:
  /// A member's numbers of one parameter: first, …, first + count - 1, row-major.
  struct Run {
    std::int64_t first = 0;
    std::int64_t count = 0;
  };

  /// `store` has its parameters' numbers and gradients, and outlives the shards: what the mode cuts
  /// is cut now. Parameters and gradients are charged to `lasting`, what is on its way to
  /// `buffers`. `mode` is not kNone.
  ParameterShards(ShardMode mode, const ReducedRows& rows, const Grid& grid, int column,
                  ParameterStore& store, MemoryAccount& lasting, MemoryAccount& buffers);

  ShardMode mode() const { return mode_; }
  bool cuts_gradients() const { return mode_ >= ShardMode::kGradients; }
  bool cuts_parameters() const { return mode_ == ShardMode::kParameters; }

  /// Whether replicas share the parameter.
  bool is_cut(const std::string& name) const { return cuts_.contains(name); }
  Group group_of(const std::string& name) const { return cuts_.at(name).parameter.holders; }
  /// By member of its group, what each owns.
  const std::vector<Run>& runs_of(const std::string& name) const { return cuts_.at(name).runs; }
  GroupPlace place(Group group) const { return place_in(group, grid_, column_); }
  /// What the optimiser updates here of a cut parameter; none if all is other members'.
  std::optional<TrainedSlice> own_slice(const std::string& name) const;

  /// Numbers or gradient of the parameter, flat; writing to it, autograd sees no change. They must
  /// be here.
  at::Tensor values(const std::string& name) const;
  at::Tensor gradients(const std::string& name) const;
  /// This rank's numbers of these parameters one after the other, padded to `length`.
  at::Tensor own_values(const std::vector<std::string>& names, std::int64_t length) const;

  /// Before a backward of a stage that uses them.
  void need_gradients(const std::set<std::string>& names);
  /// Whether an UNSHARD of parameters that stay whole has something to gather: not in the later
  /// rounds of a step and batches of a validation, between which no optimiser has updated anything.
  void begin_run(bool is_first) { is_first_ = is_first; }
  bool gathers() const { return cuts_parameters() || is_first_; }
  /// Frees what a list has left whole.
  void end_run();

  ParameterStore& store() { return store_; }
  MemoryAccount& lasting() { return lasting_; }
  MemoryAccount& buffers() { return buffers_; }

 private:
  struct Cut {
    Parameter parameter;
    std::vector<Run> runs;       // by member
    int member = 0;              // this column's place
    at::Tensor value, gradient;  // own numbers, where they are not views of the whole
    const Run& own() const { return runs[static_cast<std::size_t>(member)]; }
  };
  /// The parameters of a row and its member's numbers in one piece, in the row's order.
  struct OwnRow {
    std::vector<std::string> names;
    at::Tensor values;
  };

  void cut_row(const std::vector<Parameter>& row, Group group);

  ShardMode mode_;
  Grid grid_;
  int column_;
  ParameterStore& store_;
  MemoryAccount& lasting_;
  MemoryAccount& buffers_;
  std::map<std::string, Cut> cuts_;
  std::vector<OwnRow> own_rows_;  // where parameters are cut
  bool is_first_ = true;
};

/// What the executor of one program calls: reduces gradients to slices, gathers slices to
/// parameters. Sums are added up in ascending order of members, as GradientReducer's.
class ShardReducer final : public Reducer {
 public:
  /// `names`: by stage of the rank, the parameters that it uses. `rows` and `shards` outlive it.
  ShardReducer(const RankProgram& program, const std::map<int, std::set<std::string>>& names,
               const ReducedRows& rows, ParameterShards& shards);

  Expected<std::unique_ptr<ExchangeValue>> scatter(int stage, Group group) override;
  Expected<void> finish(int stage, Group group, Value addends) override;
  Expected<std::unique_ptr<ExchangeValue>> unshard(int stage, int number, Group group) override;
  Expected<void> end_unshard(int stage, int number, Group group, Value slices) override;
  Expected<void> reshard(int stage, int number) override;

 private:
  /// Parameters that are gathered together, and the numbers of the member that has most of them.
  struct Gather {
    std::vector<std::string> names;
    std::int64_t length = 0;
  };
  std::int64_t longest(const std::vector<std::string>& names, Group group) const;
  bool is_on_host() const { return shards_.store().device().is_cpu(); }

  const ReducedRows& rows_;
  ParameterShards& shards_;
  std::map<std::tuple<int, int, Group>, Gather> gathers_;          // by stage and number
  std::map<std::pair<int, int>, std::vector<std::string>> frees_;  // by stage and number
};

}  // namespace plait
