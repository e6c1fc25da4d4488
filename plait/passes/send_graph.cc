#include "plait/passes/send_graph.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "plait/ir/action_text.h"

namespace plait::passes_detail {

Expected<SendGraph> SendGraph::read(const Schedule& schedule) {
  SendGraph graph(schedule);
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank)
    PLAIT_TRY_VOID(graph.read_rank(schedule, rank));
  PLAIT_TRY_VOID(graph.check_ends(schedule));
  for (std::vector<Wait>& waits : graph.waits_) {
    for (Wait& wait : waits) wait = graph.wait(wait.value, wait.before);
  }
  return graph;
}

Expected<void> SendGraph::read_rank(const Schedule& schedule, std::size_t rank) {
  std::vector<Action>& chain = chains_.emplace_back();
  std::vector<Wait>& waits = waits_.emplace_back();
  for (const Action& action : schedule.ranks[rank]) {
    if (is_send(action.type)) {
      Ends& ends = ends_[values_.received(other_end(action))];
      ends.sender = rank;
      ends.send = chain.size();
    } else if (is_recv(action.type)) {
      Ends& ends = ends_[values_.received(action)];
      ends.receiver = rank;
      ends.receive = chain.size();
    } else if (is_send_wait(action.type)) {
      const std::size_t value = values_.received(other_end(awaited_send(action)));
      if (ends_[value].sender != rank || ends_[value].wait != kNone) {
        return fail(ErrorCode::kInvalidInput,
                    fmt::format("found {} on rank {}, needed its send before it, and one wait",
                                print_action(action), rank),
                    schedule.name);
      }
      ends_[value].wait = chain.size();
      waits.push_back({value, chain.size(), kNone, 0});
      continue;
    }
    chain.push_back(action);
  }
  return {};
}

Expected<void> SendGraph::check_ends(const Schedule& schedule) const {
  for (std::size_t rank = 0; rank < chains_.size(); ++rank) {
    for (const Action& action : chains_[rank]) {
      if (!is_communication(action.type)) continue;
      const Ends& ends = ends_[values_.received(recv_of(action))];
      const bool matched = ends.sender != kNone && ends.receiver != kNone;
      if (matched && ends.wait != kNone) continue;
      return fail(ErrorCode::kInvalidInput,
                  matched
                      ? fmt::format("{} on rank {} has no wait, needed one: insert-send-wait "
                                    "goes before",
                                    print_action(send_of(action)), ends.sender)
                      : fmt::format("{} on rank {} has no other end", print_action(action), rank),
                  schedule.name);
    }
  }
  return {};
}

std::size_t SendGraph::most_sends() const {
  std::size_t most = 0;
  for (const std::vector<Wait>& waits : waits_) most = std::max(most, waits.size());
  return most;
}

void SendGraph::set_waits(std::size_t rank, std::vector<Wait> waits) {
  for (const Wait& wait : waits) ends_[wait.value].wait = wait.before;
  waits_[rank] = std::move(waits);
}

Schedule SendGraph::write(Schedule schedule) && {
  for (std::size_t rank = 0; rank < chains_.size(); ++rank) {
    std::vector<Action>& list = schedule.ranks[rank];
    std::size_t wait = 0;
    list.clear();
    const std::vector<Action>& chain = chains_[rank];
    for (std::size_t at = 0; at <= chain.size(); ++at) {
      for (; wait < waits_[rank].size() && waits_[rank][wait].before == at; ++wait) {
        const Ends& ends = ends_[waits_[rank][wait].value];
        list.push_back(wait_for_send(chain[ends.send]));
      }
      if (at < chain.size()) list.push_back(chain[at]);
    }
  }
  return schedule;
}

}  // namespace plait::passes_detail
