/// How an action looks: the letter and the colours that pictures, page and terminals share.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "plait/ir/action.h"

namespace plait {

/// Of Okabe and Ito's colours, and a darker one for a rank's later stages. The page has the same
/// (viewer/draw.js).
struct ActionColour {
  ActionType type;
  std::string_view name;
  std::string_view first_stage, later_stage;       ///< #rrggbb
  int terminal_first_stage, terminal_later_stage;  ///< the nearest of a terminal's 256
};
inline constexpr std::array kActionColours{
    ActionColour{ActionType::kForward, "F", "#f0c15c", "#c98a00", 215, 172},
    ActionColour{ActionType::kBackward, "B", "#5bbf9f", "#007a58", 73, 29},
    ActionColour{ActionType::kBackwardInput, "I", "#8fcdf2", "#2b86bd", 117, 31},
    ActionColour{ActionType::kBackwardWeight, "W", "#dfa9c6", "#a8557f", 182, 132},
};

/// f, b, i and w; u UNSHARD, d RESHARD, r REDUCE_GRAD, e its WAIT_REDUCE_GRAD; capitals for later
/// stages. > a send, < a receive, | a wait for a send.
char action_letter(ActionType type, bool later_stage);

inline constexpr std::string_view kLetterMeanings =
    "f forward  b backward  i, w backward for inputs, for weights  . idle";
inline constexpr std::string_view kCapitalsMeaning = "  CAPITALS: a rank's later stages";

/// `text` on the action's colour, for a terminal of 256 colours; members of a pair underlined.
std::string coloured_action(ActionType type, bool later_stage, bool in_pair, std::string_view text);

}  // namespace plait
