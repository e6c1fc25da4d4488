#include "plait/train/processes.h"

#include <utility>

#include "plait/launch/launch.h"
#include "plait/launch/local_ranks.h"
#include "plait/torch/rendezvous.h"

namespace plait {

Expected<RunProcess> join_processes(int ranks, const std::vector<std::string>& arguments) {
  PLAIT_TRY(const RankPlace place, find_place(current_environment(), "", ranks));
  hide_c10d_lines();
  RunProcess process;
  if (place.rank >= 0) {
    process.options.rank = place.rank;
    process.options.ranks = place.ranks;
    process.options.rank_on_machine = place.rank_on_machine;
    process.options.address = place.master_address;
    process.options.port = place.master_port;
    process.options.hosts_store = place.hosts_store;
    process.options.run_id = place.run_id;
    process.options.on_met = tell_parent_of_meeting;
    return process;
  }
  PLAIT_TRY(const StoreServer server, StoreServer::start(0));
  LocalRanks::Options local;
  local.ranks = ranks;
  local.arguments = arguments;
  local.master_port = server.port();
  PLAIT_TRY(LocalRanks started, LocalRanks::start(local));
  LocalRanks::Outcome outcome = started.wait();
  process.exit_code = outcome.exit_code;
  process.message = std::move(outcome.message);
  return process;
}

}  // namespace plait
