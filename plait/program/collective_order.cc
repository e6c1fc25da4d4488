#include "plait/program/collective_order.h"

#include <fmt/core.h>

#include <algorithm>
#include <string>

#include "plait/base/check.h"

namespace plait {
namespace {

constexpr const char* name_of(Group group) {
  switch (group) {
    case Group::kExpert:
      return "expert group";
    case Group::kData:
      return "replicas of its experts";
    case Group::kReplicas:
      return "replicas";
  }
  return "";
}

class CollectiveOrder {
 public:
  CollectiveOrder(const Grid& grid, const std::vector<const RankProgram*>& programs)
      : grid_(grid), programs_(programs) {}

  Expected<void> run() const {
    for (const Group group : {Group::kExpert, Group::kData, Group::kReplicas}) {
      for (int rank = 0; rank < grid_.ranks(); ++rank) {
        const int first = grid_.members(group, rank).front();
        if (first != rank) PLAIT_TRY_VOID(compare(group, first, rank));
      }
    }
    return {};
  }

 private:
  const RankProgram& program_of(int rank) const {
    return *programs_[static_cast<std::size_t>(rank)];
  }

  std::vector<const Instruction*> collectives(Group group, int rank) const {
    const RankProgram& program = program_of(rank);
    std::vector<const Instruction*> issued;
    for (const std::int32_t index : program.lane(Lane::kCommunication)) {
      const Instruction& one = program.instructions[static_cast<std::size_t>(index)];
      if (is_collective(one.opcode) && one.group == group) issued.push_back(&one);
    }
    return issued;
  }

  std::string name(int rank, const std::vector<const Instruction*>& issued, std::size_t i) const {
    if (i == issued.size()) return "nothing more";
    return describe(program_of(rank), *issued[i], Column{grid_.columns(), grid_.column_of(rank)});
  }

  Expected<void> compare(Group group, int first, int rank) const {
    const std::vector<const Instruction*> ours = collectives(group, first);
    const std::vector<const Instruction*> theirs = collectives(group, rank);
    for (std::size_t i = 0; i < std::max(ours.size(), theirs.size()); ++i) {
      const std::string one = name(first, ours, i), other = name(rank, theirs, i);
      if (one == other && i < ours.size() && is_same(*ours[i], *theirs[i])) continue;
      return fail(ErrorCode::kCheckFailed,
                  fmt::format("collective {} of the {} of rank {} is {} on rank {}, and {} on rank "
                              "{}; needed one order",
                              i, name_of(group), first, one, first, other, rank));
    }
    return {};
  }

  static bool is_same(const Instruction& one, const Instruction& other) {
    return one.opcode == other.opcode && one.action == other.action && one.part == other.part;
  }

  const Grid& grid_;
  const std::vector<const RankProgram*>& programs_;
};

}  // namespace

Expected<void> check_collective_order(const Grid& grid,
                                      const std::vector<const RankProgram*>& programs) {
  PLAIT_CHECK(programs.size() == static_cast<std::size_t>(grid.ranks()), "a program for each rank");
  return CollectiveOrder(grid, programs).run();
}

std::string print_programs(const std::vector<RankProgram>& programs) {
  std::string text;
  for (const RankProgram& program : programs) {
    for (const Instruction& one : program.instructions)
      text += fmt::format("rank {} {}\n", program.rank, describe(program, one, Column{}));
  }
  return text;
}

}  // namespace plait
