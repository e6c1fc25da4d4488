#include "plait/program/print_program.h"

#include <fmt/core.h>

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

std::string print_boundaries(const Boundaries& boundaries) {
  std::string text;
  for (std::size_t i = 0; i < boundaries.size(); ++i) {
    text +=
        fmt::format("boundary {} forward: {}\nboundary {} backward: {}\n", i,
                    print_spec(boundaries[i].activation), i, print_spec(boundaries[i].gradient));
  }
  return text;
}

std::string print_collectives(const RankProgram& program) {
  std::string text;
  for (const Group group : {Group::kExpert, Group::kData, Group::kReplicas}) {
    int number = 0;
    for (const std::int32_t index : program.lane(Lane::kCommunication)) {
      const Instruction& one = program.instructions[static_cast<std::size_t>(index)];
      if (!is_collective(one.opcode) || one.group != group) continue;
      text += fmt::format("pipeline rank {}, collective {} of the {}: {}\n", program.rank, number++,
                          name_of(group), describe(program, one, Column{}));
    }
  }
  return text;
}

}  // namespace

std::string print_programs(const std::vector<RankProgram>& programs) {
  if (programs.empty()) return "";
  std::string text = print_boundaries(programs.front().boundaries);
  for (const RankProgram& program : programs) text += print_collectives(program);
  for (const RankProgram& program : programs) {
    int number = 0;
    for (const Instruction& one : program.instructions) {
      text += fmt::format("pipeline rank {}, instruction {}: {}\n", program.rank, number++,
                          describe(program, one, Column{}));
    }
  }
  return text;
}

}  // namespace plait
