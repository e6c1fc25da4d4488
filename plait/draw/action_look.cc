#include "plait/draw/action_look.h"

#include <fmt/core.h>

namespace plait {
namespace {

constexpr int kBlack = 16, kWhite = 231;

struct TerminalColour {
  int background;
  int ink;
};

TerminalColour terminal_colour(ActionType type, bool later_stage) {
  for (const ActionColour& colour : kActionColours) {
    if (colour.type != type) continue;
    if (!later_stage) return {colour.terminal_first_stage, kBlack};
    // The dark orange is still a light colour.
    return {colour.terminal_later_stage, type == ActionType::kForward ? kBlack : kWhite};
  }
  // As on the page: messages and waits for them grey, the rest yellow.
  return {is_communication(type) || is_send_wait(type) ? 250 : 185, kBlack};
}

}  // namespace

char action_letter(ActionType type, bool later_stage) {
  switch (type) {
    case ActionType::kForward:
      return later_stage ? 'F' : 'f';
    case ActionType::kBackwardInput:
      return later_stage ? 'I' : 'i';
    case ActionType::kBackwardWeight:
      return later_stage ? 'W' : 'w';
    case ActionType::kUnshard:
      return later_stage ? 'U' : 'u';
    case ActionType::kReshard:
      return later_stage ? 'D' : 'd';
    case ActionType::kReduceGrad:
      return later_stage ? 'R' : 'r';
    case ActionType::kWaitReduceGrad:
      return later_stage ? 'E' : 'e';
    case ActionType::kWaitSendF:
    case ActionType::kWaitSendB:
      return '|';
    default:
      if (is_communication(type)) return is_send(type) ? '>' : '<';
      return later_stage ? 'B' : 'b';
  }
}

std::string coloured_action(ActionType type, bool later_stage, bool in_pair,
                            std::string_view text) {
  const TerminalColour colour = terminal_colour(type, later_stage);
  return fmt::format("\x1b[48;5;{};38;5;{}{}m{}\x1b[0m", colour.background, colour.ink,
                     in_pair ? ";4" : "", text);
}

}  // namespace plait
