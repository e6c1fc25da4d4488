/// Where the ranks of a run stand: pipeline × data × expert.
#pragma once

#include <cstdint>
#include <vector>

namespace plait {

/// Who exchanges with whom, beside the pipeline's messages.
enum class Group : std::uint8_t {
  kExpert,    ///< the ranks that share a layer's experts
  kData,      ///< the ranks that hold the same experts: replicas of them
  kReplicas,  ///< the ranks that hold the same other parameters: data × expert
};

/// One of the members of a group.
struct GroupPlace {
  int member = 0;
  int members = 1;
};

/// Global rank = (pipeline * data + d) * expert + e: the expert group lies on neighbours.
struct Grid {
  int pipeline = 1;
  int data = 1;
  int expert = 1;

  int columns() const { return data * expert; }
  int ranks() const { return pipeline * columns(); }
  int pipeline_of(int rank) const { return rank / columns(); }
  /// A column is one pipeline: the ranks with the same place in data and expert.
  int column_of(int rank) const { return rank % columns(); }
  int rank_of(int pipeline_rank, int column) const { return pipeline_rank * columns() + column; }
  /// A column's place in its expert group.
  GroupPlace expert_place(int column) const { return {column % expert, expert}; }
  /// Members in ascending order; `rank` is one of them.
  std::vector<int> members(Group group, int rank) const {
    const int first = rank - column_of(rank);
    const int d = column_of(rank) / expert, e = column_of(rank) % expert;
    std::vector<int> ranks;
    for (int column = 0; column < columns(); ++column) {
      const bool same_data = column / expert == d, same_expert = column % expert == e;
      if (group == Group::kReplicas || (group == Group::kExpert ? same_data : same_expert))
        ranks.push_back(first + column);
    }
    return ranks;
  }
  friend bool operator==(const Grid&, const Grid&) = default;
};

/// One column's ranks, by pipeline rank.
struct Column {
  int stride = 1;
  int first = 0;
  int rank_of(int pipeline_rank) const { return pipeline_rank * stride + first; }
};

}  // namespace plait
