/// Actions as text: `2F0`, `3SEND_F1`, `1UNSHARD`, `(0F7;7B3)OVERLAP_F_B`.
///
/// Grammar: action := stage TYPE [microbatch]; pair := '(' action { ';' action } ')' OVERLAP_F_B.
/// Pairs nest. print∘parse is the identity. Source: torch.distributed.pipelining's action text.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "plait/base/error.h"
#include "plait/ir/action.h"

namespace plait {

/// "F", "SEND_F", …; "" for an idle slot.
std::string_view type_name(ActionType type);

/// One action without its members: `2F0`; a pair's header is `OVERLAP_F_B`.
std::string print_action(const Action& action);

/// The action at `position` of a list, a pair with its members.
std::string print_action_at(std::span<const Action> list, std::size_t position);

/// Appends what print_action_at gives. Cost: O(characters), no allocation but `text`'s own.
void append_action_at(std::string& text, std::span<const Action> list, std::size_t position);

/// Where a text could not be read.
struct ActionTextError {
  std::size_t offset = 0;  ///< bytes from the start of the text
  std::string message;     ///< what was found and what was needed
};

/// "'x'", "'\x1b'" for what is no printable ASCII, or "the end": what stands at `offset`.
std::string found_at(std::string_view text, std::size_t offset);

/// What is wrong with `text` if an action of it ends before `offset` and something else follows.
ActionTextError junk_after_action(std::string_view text, std::size_t offset);

/// Of a byte of a file's text. Cost: O(offset).
ErrorPlace place_of_byte(const std::string& file, std::string_view text, std::size_t offset);

/// Appends the action that `text` holds, a pair as header and members; consumes all of `text`.
/// Stages and micro-batches are below 2^20 and 2^30. On an error nothing is appended.
tl::expected<void, ActionTextError> parse_action(std::string_view text, std::vector<Action>& list);

/// The same for the action that `text` starts with; returns how many bytes it takes.
tl::expected<std::size_t, ActionTextError> parse_action_prefix(std::string_view text,
                                                               std::vector<Action>& list);

/// Entries of the list that a row of `cells` actions makes: one each, and one for every member of a
/// pair. Reserving them keeps lists from growing to twice their size. Cost: O(row).
std::size_t count_entries(std::string_view row, std::size_t cells);

}  // namespace plait
