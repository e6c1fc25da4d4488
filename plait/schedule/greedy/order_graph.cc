#include "plait/schedule/greedy/order_graph.h"

#include <algorithm>
#include <bit>

#include "plait/base/check.h"

namespace plait {
OrderCosts::Hold OrderCosts::hold(const Action& action) const {
  const std::vector<Hold>& given = holds[compute_index(action.type)];
  if (!given.empty()) return given[static_cast<std::size_t>(action.stage)];
  if (action.type == ActionType::kForward) return {1, 1};
  return {0, action.type == ActionType::kBackwardInput ? 0 : -1};
}

int first_over_cap(const Schedule& schedule, const OrderCosts& costs) {
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    std::int64_t held = 0;
    for (const Action& action : schedule.ranks[rank]) {
      if (!is_compute(action.type)) continue;
      const OrderCosts::Hold hold = costs.hold(action);
      if (held + hold.peak > costs.caps[rank]) return static_cast<int>(rank);
      held += hold.kept;
    }
  }
  return -1;
}

OrderGraph::OrderGraph(const Schedule& schedule, const OrderCosts& costs)
    : empty_(empty_schedule(schedule.name, schedule.placement, schedule.microbatches)),
      caps_(costs.caps),
      orders_(schedule.ranks.size()) {
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    for (const Action& action : schedule.ranks[rank]) {
      if (!is_compute(action.type)) continue;
      State state;
      state.action = action;
      state.rank = static_cast<std::uint32_t>(rank);
      state.position = static_cast<std::uint32_t>(orders_[rank].size());
      state.length = costs.actions.length_of(action);
      if (passes_gradient(action.type))
        state.recompute = costs.actions.recompute_of(static_cast<std::size_t>(action.stage));
      state.hold = costs.hold(action);
      orders_[rank].push_back(static_cast<Node>(nodes_.size()));
      nodes_.push_back(state);
    }
  }
  link(costs);
  sort();
  dirty_.resize(nodes_.size() / 64 + 1);
  marked_.resize(nodes_.size());
  for (const Node node : sorted_) at(node).head = head_of(at(node));
  for (auto node = sorted_.rbegin(); node != sorted_.rend(); ++node)
    at(*node).tail = tail_of(at(*node));
  for (std::size_t rank = 0; rank < orders_.size(); ++rank) {
    if (!orders_[rank].empty()) set_held(rank, 0, orders_[rank].size() - 1);
  }
  makespan_ = last_end();
}

void OrderGraph::link(const OrderCosts& costs) {
  const int stages = empty_.placement.stages();
  const auto microbatches = static_cast<std::size_t>(empty_.microbatches);
  const std::size_t cells = static_cast<std::size_t>(stages) * microbatches;
  std::vector<Node> forwards(cells, kNone);
  std::vector<Node> backwards(cells, kNone);
  const auto cell = [&](int stage, int mb) {
    return static_cast<std::size_t>(stage) * microbatches + static_cast<std::size_t>(mb);
  };
  for (std::size_t id = 0; id < nodes_.size(); ++id) {
    const Action& action = nodes_[id].action;
    const std::size_t place = cell(action.stage, action.microbatch);
    if (action.type == ActionType::kForward) forwards[place] = static_cast<Node>(id);
    if (passes_gradient(action.type)) backwards[place] = static_cast<Node>(id);
  }
  for (std::size_t id = 0; id < nodes_.size(); ++id) {
    State& reader = nodes_[id];
    const int stage = reader.action.stage;
    const int mb = reader.action.microbatch;
    if (reader.action.type == ActionType::kForward && stage > 0)
      reader.input = forwards[cell(stage - 1, mb)];
    if (passes_gradient(reader.action.type) && stage + 1 < stages)
      reader.input = backwards[cell(stage + 1, mb)];
    if (reader.input == kNone) continue;
    reader.delay =
        costs.delay(static_cast<int>(at(reader.input).rank), static_cast<int>(reader.rank));
    at(reader.input).reader = static_cast<Node>(id);
  }
}

void OrderGraph::sort() {
  std::vector<std::uint8_t> waiting(nodes_.size());
  std::vector<Node> ready;
  for (std::size_t id = 0; id < nodes_.size(); ++id) {
    waiting[id] = static_cast<std::uint8_t>((nodes_[id].position == 0 ? 0 : 1) +
                                            (nodes_[id].input == kNone ? 0 : 1));
    if (waiting[id] == 0) ready.push_back(static_cast<Node>(id));
  }
  // By turns of all ranks, so that neighbours in the order are neighbours in time.
  for (std::size_t next = 0; next < ready.size(); ++next) {
    const State& state = at(ready[next]);
    for (const Node freed : {state.reader, after(state)}) {
      if (freed != kNone && --waiting[static_cast<std::size_t>(freed)] == 0) ready.push_back(freed);
    }
  }
  PLAIT_CHECK(ready.size() == nodes_.size(), "an order that cannot finish");
  sorted_ = std::move(ready);
  for (std::size_t place = 0; place < sorted_.size(); ++place)
    at(sorted_[place]).topological = static_cast<std::uint32_t>(place);
}

/// Of two nodes of one rank: whether the first must stay before the second. Micro-batches of a
/// stage keep their order in each kind; F, I and W of one micro-batch follow each other.
bool OrderGraph::depends(Node first, Node second) const {
  const State& a = at(first);
  const State& b = at(second);
  if (b.input == first) return true;
  if (a.action.stage != b.action.stage) return false;
  if (a.action.microbatch == b.action.microbatch || a.action.type == b.action.type) return true;
  return passes_gradient(a.action.type) && passes_gradient(b.action.type);
}

bool OrderGraph::may_pass(Node node, std::size_t from, std::size_t to) const {
  const std::vector<Node>& order = orders_[at(node).rank];
  for (std::size_t i = to; i < from; ++i) {
    if (depends(order[i], node)) return false;
  }
  for (std::size_t i = from + 1; i <= to; ++i) {
    if (depends(node, order[i])) return false;
  }
  return true;
}

bool OrderGraph::fits(std::size_t rank, std::size_t first, std::size_t last) const {
  const std::vector<Node>& order = orders_[rank];
  std::int64_t held = first == 0 ? 0 : at(order[first - 1]).held + at(order[first - 1]).hold.kept;
  for (std::size_t i = first; i <= last; ++i) {
    const OrderCosts::Hold& hold = at(order[i]).hold;
    if (held + hold.peak > caps_[rank]) return false;
    held += hold.kept;
  }
  return true;
}

void OrderGraph::set_held(std::size_t rank, std::size_t first, std::size_t last) {
  const std::vector<Node>& order = orders_[rank];
  std::int64_t held = first == 0 ? 0 : at(order[first - 1]).held + at(order[first - 1]).hold.kept;
  for (std::size_t i = first; i <= last; ++i) {
    at(order[i]).held = held;
    held += at(order[i]).hold.kept;
  }
}

void OrderGraph::rotate(std::size_t rank, std::size_t from, std::size_t to) {
  std::vector<Node>& order = orders_[rank];
  const Node node = order[from];
  const std::size_t step = from < to ? 1 : static_cast<std::size_t>(-1);
  for (std::size_t i = from; i != to; i += step) {
    order[i] = order[i + step];
    at(order[i]).position = static_cast<std::uint32_t>(i);
  }
  order[to] = node;
  at(node).position = static_cast<std::uint32_t>(to);
}

void OrderGraph::save_region(std::size_t first, std::size_t last) {
  Done& done = done_.back();
  done.region_begin = first;
  done.region_saved = saved_.size();
  done.region_size = last - first + 1;
  saved_.insert(saved_.end(), sorted_.begin() + static_cast<std::ptrdiff_t>(first),
                sorted_.begin() + static_cast<std::ptrdiff_t>(last) + 1);
  visits_ += static_cast<std::int64_t>(done.region_size);
}

/// Writes moved_ and others_ to sorted_ from `first` on.
void OrderGraph::put_region(std::size_t first) {
  for (const std::vector<Node>* part : {&others_, &moved_}) {
    for (const Node node : *part) {
      sorted_[first] = node;
      at(node).topological = static_cast<std::uint32_t>(first++);
    }
  }
}

/// The lists have `later` before `earlier` now: puts it and all before it that it follows from in
/// front of `earlier`. False, and nothing changed, if it follows from `earlier`: a cycle.
/// Source: Pearce and Kelly, ACM JEA 11 (2006).
bool OrderGraph::reorder_before(Node later, Node earlier) {
  const std::size_t first = at(earlier).topological;
  const std::size_t last = at(later).topological;
  save_region(first, last);
  marked_[static_cast<std::size_t>(later)] = 1;
  others_.clear();
  moved_.clear();
  bool cycle = false;
  for (std::size_t place = last + 1; place-- > first;) {
    const Node node = sorted_[place];
    const auto id = static_cast<std::size_t>(node);
    if (marked_[id] == 0) {
      moved_.push_back(node);
      continue;
    }
    marked_[id] = 0;
    others_.push_back(node);
    cycle = cycle || node == earlier;
    const State& state = at(node);
    for (const Node input : {state.input, before(state)}) {
      if (input != kNone && at(input).topological >= first)
        marked_[static_cast<std::size_t>(input)] = 1;
    }
  }
  marked_[static_cast<std::size_t>(later)] = 0;
  if (cycle) return false;
  std::reverse(others_.begin(), others_.end());
  std::reverse(moved_.begin(), moved_.end());
  put_region(first);
  return true;
}

/// The same for `earlier`, which the lists have behind `later` now.
bool OrderGraph::reorder_after(Node earlier, Node later) {
  const std::size_t first = at(earlier).topological;
  const std::size_t last = at(later).topological;
  save_region(first, last);
  marked_[static_cast<std::size_t>(earlier)] = 1;
  others_.clear();
  moved_.clear();
  bool cycle = false;
  for (std::size_t place = first; place <= last; ++place) {
    const Node node = sorted_[place];
    const auto id = static_cast<std::size_t>(node);
    if (marked_[id] == 0) {
      others_.push_back(node);
      continue;
    }
    marked_[id] = 0;
    moved_.push_back(node);
    cycle = cycle || node == later;
    const State& state = at(node);
    for (const Node reader : {state.reader, after(state)}) {
      if (reader != kNone && at(reader).topological <= last)
        marked_[static_cast<std::size_t>(reader)] = 1;
    }
  }
  marked_[static_cast<std::size_t>(earlier)] = 0;
  if (cycle) return false;
  put_region(first);
  return true;
}

Nanoseconds OrderGraph::head_of(const State& state) const {
  Nanoseconds head = state.recompute;
  if (state.position > 0) {
    const State& previous = at(orders_[state.rank][state.position - 1]);
    head += previous.head + previous.length;
  }
  if (state.input == kNone) return head;
  const State& input = at(state.input);
  return std::max(head, input.head + input.length + state.delay);
}

Nanoseconds OrderGraph::tail_of(const State& state) const {
  Nanoseconds tail = 0;
  if (const Node next = after(state); next != kNone) {
    const State& follows = at(next);
    tail = follows.recompute + follows.length + follows.tail;
  }
  if (state.reader == kNone) return tail;
  const State& reader = at(state.reader);
  return std::max(tail, reader.delay + reader.length + reader.tail);
}

Nanoseconds OrderGraph::last_end() const {
  Nanoseconds end = 0;
  for (const std::vector<Node>& order : orders_) {
    if (!order.empty()) end = std::max(end, at(order.back()).head + at(order.back()).length);
  }
  return end;
}

/// Heads of what is marked and of what follows from it. `last`: behind it in sorted_, tails are as
/// they will be, so that a path through a head there has its whole length.
bool OrderGraph::update_heads(std::size_t first, std::size_t last, Nanoseconds limit) {
  for (std::size_t word = first >> 6; word < dirty_.size(); ++word) {
    while (dirty_[word] != 0) {
      const std::size_t place =
          64 * word + static_cast<std::size_t>(std::countr_zero(dirty_[word]));
      dirty_[word] &= dirty_[word] - 1;
      const Node node = sorted_[place];
      State& state = at(node);
      ++visits_;
      const Nanoseconds head = head_of(state);
      if (head == state.head) continue;
      changed_.push_back({node, state.head});
      state.head = head;
      if (place > last && head + state.length + state.tail > limit) {
        for (std::size_t rest = word; rest < dirty_.size(); ++rest) dirty_[rest] = 0;
        return false;
      }
      if (state.reader != kNone) mark(state.reader);
      if (const Node next = after(state); next != kNone) mark(next);
    }
  }
  return last_end() <= limit;
}

void OrderGraph::update_tails() {
  for (std::size_t word = dirty_.size(); word-- > 0;) {
    while (dirty_[word] != 0) {
      const auto bit = 63 - static_cast<std::size_t>(std::countl_zero(dirty_[word]));
      dirty_[word] &= ~(std::uint64_t{1} << bit);
      State& state = at(sorted_[64 * word + bit]);
      ++visits_;
      const Nanoseconds tail = tail_of(state);
      if (tail == state.tail) continue;
      state.tail = tail;
      if (state.input != kNone) mark(state.input);
      if (const Node previous = before(state); previous != kNone) mark(previous);
    }
  }
}

bool OrderGraph::shift(const Shift& shift) {
  const std::size_t from = at(shift.node).position;
  if (from == shift.to || !may_pass(shift.node, from, shift.to)) return false;
  const Node passed = orders_[at(shift.node).rank][shift.to];
  rotate(at(shift.node).rank, from, shift.to);
  done_.push_back({shift.node, from, 0, 0, 0});
  if (shift.to < from ? reorder_before(shift.node, passed) : reorder_after(shift.node, passed))
    return true;
  rotate(at(shift.node).rank, shift.to, from);
  saved_.resize(done_.back().region_saved);
  done_.pop_back();
  return false;
}

void OrderGraph::undo_shifts() {
  for (auto done = done_.rbegin(); done != done_.rend(); ++done) {
    rotate(at(done->node).rank, at(done->node).position, done->from);
    for (std::size_t i = 0; i < done->region_size; ++i) {
      const Node node = saved_[done->region_saved + i];
      sorted_[done->region_begin + i] = node;
      at(node).topological = static_cast<std::uint32_t>(done->region_begin + i);
    }
  }
}

OrderGraph::Moved OrderGraph::move(std::span<const Shift> shifts, Nanoseconds limit) {
  done_.clear();
  saved_.clear();
  const std::size_t rank = at(shifts.front().node).rank;
  std::size_t first = nodes_.size();
  std::size_t last = 0;
  std::size_t region_begin = nodes_.size();
  std::size_t region_end = 0;
  for (const Shift& one : shifts) {
    const std::size_t from = at(one.node).position;
    first = std::min({first, from, one.to});
    last = std::max({last, from, one.to});
    if (!shift(one)) {
      undo_shifts();
      return Moved::kNo;
    }
    region_begin = std::min(region_begin, done_.back().region_begin);
    region_end = std::max(region_end, done_.back().region_begin + done_.back().region_size - 1);
  }
  if (!fits(rank, first, last)) {
    undo_shifts();
    return Moved::kOverCap;
  }
  const std::vector<Node>& order = orders_[rank];
  for (std::size_t i = first; i <= last; ++i) mark(order[i]);
  if (last + 1 < order.size()) mark(order[last + 1]);
  changed_.clear();
  if (!update_heads(region_begin, region_end, limit)) {
    for (auto change = changed_.rbegin(); change != changed_.rend(); ++change)
      at(change->node).head = change->head;
    undo_shifts();
    return Moved::kNo;
  }
  makespan_ = last_end();
  set_held(rank, first, last);
  for (std::size_t i = first; i <= last; ++i) mark(order[i]);
  if (first > 0) mark(order[first - 1]);
  update_tails();
  return Moved::kYes;
}

Schedule OrderGraph::schedule(const std::vector<std::vector<Node>>& orders) const {
  Schedule schedule = empty_;
  for (std::size_t rank = 0; rank < orders.size(); ++rank) {
    schedule.ranks[rank].reserve(orders[rank].size());
    for (const Node node : orders[rank]) schedule.ranks[rank].push_back(at(node).action);
  }
  return schedule;
}

double OrderGraph::mean_length() const {
  double sum = 0;
  for (const State& state : nodes_) sum += static_cast<double>(state.length);
  return nodes_.empty() ? 0 : sum / static_cast<double>(nodes_.size());
}

}  // namespace plait
