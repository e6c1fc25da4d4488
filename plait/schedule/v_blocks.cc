#include "plait/schedule/building_block.h"
#include "plait/schedule/shape_checks.h"

namespace plait {

// The offsets are those of the paper's Table 2, with `gap` where slots modulo six would collide.

Expected<Schedule> generate_v_half(const ScheduleShape& shape) {
  PLAIT_TRY_VOID(check_shape("v-half", shape, 2));
  const int p = shape.ranks;
  const int gap = p % 2 == 0 ? 3 : 0;
  std::vector<BlockSlots> blocks;
  for (int r = 0; r < p; ++r)
    blocks.push_back({2 * r, 3 * p - 2 - r, 3 * p + gap + 2 * r - 1, 6 * p + gap - 2 - r});
  return repeat_block("v-half", shape, blocks, WeightSlots::kLate);
}

Expected<Schedule> generate_v_min(const ScheduleShape& shape) {
  PLAIT_TRY_VOID(check_shape("v-min", shape, 2));
  const int p = shape.ranks;
  const int gap = p % 3 == 0 ? 2 : 0;
  std::vector<BlockSlots> blocks;
  for (int r = 0; r < p; ++r)
    blocks.push_back({r, 2 * p - 1 - r, 2 * p + gap + r, 4 * p + gap - 1 - r});
  return repeat_block("v-min", shape, blocks, WeightSlots::kFree);
}

// I and W are the two slots of the source's B; after three backwards the next forwards' slots are
// skipped. They are written apart, which sends the gradient before W and is idle less;
// merge-backward makes the source's order of them.
Expected<Schedule> generate_one_f_one_b_v(const ScheduleShape& shape) {
  PLAIT_TRY_VOID(check_shape("1f1b-v", shape, 2));
  const int p = shape.ranks;
  std::vector<BlockSlots> blocks(static_cast<std::size_t>(p));
  for (int r = 0; r < p; ++r) {
    blocks[static_cast<std::size_t>(r)].forward_down = r;
    blocks[static_cast<std::size_t>(r)].forward_up = 2 * p - 1 - r;
  }
  int slot = 2 * p + (p % 3 == 0 ? 3 : 0);
  int in_a_row = (3 - (p + 2) % 3) % 3;
  const auto next = [&](int& backward) {
    backward = slot;
    slot += 2;
    if (++in_a_row < 3) return;
    in_a_row = 0;
    slot += 3;
  };
  for (BlockSlots& block : blocks) next(block.backward_up);
  for (auto block = blocks.rbegin(); block != blocks.rend(); ++block) next(block->backward_down);
  return repeat_block("1f1b-v", shape, blocks, WeightSlots::kBlock);
}

}  // namespace plait
