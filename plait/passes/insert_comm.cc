#include "plait/passes/insert_comm.h"

#include <utility>

#include "plait/passes/check_input.h"
#include "plait/passes/order_messages.h"
#include "plait/passes/passes.h"

namespace plait {

Expected<Schedule> insert_comm(Schedule schedule) {
  PLAIT_TRY_VOID(passes_detail::check_input(schedule, passes_detail::Communication::kRefused));
  return passes_detail::order_messages(std::move(schedule), passes_detail::Sends::kInserted);
}

Expected<Schedule> insert_comm_pass(Schedule schedule, const PassOptions& /*options*/) {
  return insert_comm(std::move(schedule));
}

}  // namespace plait
