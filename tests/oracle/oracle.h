/// For tests: runs a schedule, proven or not, on the runtime's executors and returns the outcome.
///
/// The lists are run as the proof reads them: a message is posted where it stands in its list, a
/// pair is a block. (plait/program/lower.cc posts receives earlier, which only lets more end.)
/// Every value has a slot of its own, and a slot that was never written reads as nothing, so that a
/// wrong list computes wrongly instead of being refused.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "plait/ir/dialect.h"
#include "plait/ir/direction.h"
#include "tests/support/world.h"

namespace plait::testing {

/// Integers that wrap: sums are exact and the same in every order.
class Word final : public Payload {
 public:
  explicit Word(std::uint64_t value) : word(value) {}
  Bytes bytes() const override { return sizeof(word); }
  std::uint64_t word;
};
inline Value make_word(std::uint64_t value) { return std::make_unique<Word>(value); }
inline std::uint64_t word_in(const Value& value) { return static_cast<const Word&>(*value).word; }

/// What one stage computes; the reference uses the same.
struct StageMath {
  static std::uint64_t input(int mb) { return 1000003U + 7919U * static_cast<unsigned>(mb); }
  static std::uint64_t forward(int stage, std::uint64_t x) {
    return x * 31 + static_cast<unsigned>(stage) + 1;
  }
  static std::uint64_t loss_gradient(int mb) { return 17 + static_cast<unsigned>(mb) * 2; }
  static std::uint64_t backward(int stage, std::uint64_t g) {
    return g * 37 + static_cast<unsigned>(stage) + 5;
  }
  static std::uint64_t reduce(std::uint64_t sum) { return sum * 3; }
};

/// What a rank does beside its instructions: parameter actions between compute calls, and counts.
struct RankModel {
  struct Call {
    std::vector<Action> before;  ///< parameter actions since the last call
    int starts = 0;              ///< activations that live from here on; a pair's all at its start
    int ends = 0;                ///< and up to here
  };
  std::vector<Call> calls;
  std::vector<Action> after;
  bool shards = false;
  std::size_t next_call = 0;
  int live = 0;
  int peak = 0;
  std::size_t most_whole = 0;
  std::string fault;
  bool waits = false;      ///< the schedule has waits: sends and reductions need theirs
  std::set<int> shared{};  ///< stages that several ranks of the pipeline hold
  int reducing = -1;       ///< stage whose reduction is pending
  std::set<int> whole;
  std::map<int, std::uint64_t> gradient{};  ///< by stage
  std::map<int, std::uint64_t> forwards{};
  int last_computed = -1;                                 ///< stage
  std::vector<std::pair<int, std::uint64_t>> reductions;  ///< stage, gradient when issued
  std::map<int, std::vector<int>> accumulated{};          ///< micro-batches in order

  void parameter_action(const Action& action) {
    if (is_reduction(action.type)) follow_reduction(action);
    if (action.type == ActionType::kWaitReduceGrad) return;
    if (action.type == ActionType::kReduceGrad) {
      for (const auto& [stage, issued] : reductions) {
        if (stage == action.stage) fault = "reduces twice";
      }
      reductions.emplace_back(action.stage, gradient[action.stage]);
      gradient[action.stage] = 0;
    } else if (action.type == ActionType::kUnshard) {
      if (!whole.insert(action.stage).second) fault = "unshards twice";
      most_whole = std::max(most_whole, whole.size());
    } else if (whole.erase(action.stage) == 0) {
      fault = "reshards what is sharded";
    }
  }
  void follow_reduction(const Action& action) {
    const bool starts = action.type == ActionType::kReduceGrad;
    if (!waits || (starts && shared.contains(action.stage))) return;
    if (starts) {
      if (reducing >= 0) fault = "reduces two stages at a time";
      reducing = action.stage;
    } else {
      if (reducing != action.stage) fault = "waits for no reduction";
      reducing = -1;
    }
  }
  void begin_call(int stage) {
    if (next_call >= calls.size()) return;
    for (const Action& action : calls[next_call].before) parameter_action(action);
    live += calls[next_call].starts;
    peak = std::max(peak, live);
    if (shards && !whole.contains(stage)) fault = "computes with shards";
    last_computed = stage;
  }
  void end_call() {
    if (next_call < calls.size()) live -= calls[next_call++].ends;
  }
  void finish() {
    for (const Action& action : after) parameter_action(action);
    whole.erase(last_computed);  // torch's lowering leaves it
    if (!whole.empty()) fault = "ends unsharded";
    if (reducing >= 0) fault = "ends within a reduction";
  }
};

class OracleStage final : public Stage {
 public:
  OracleStage(int stage, int stages, RankModel& rank)
      : stage_(stage), last_(stage == stages - 1), rank_(rank) {}

  Expected<ForwardResult> forward(PartOf at, Value input, bool for_backward) override {
    const int microbatch = at.microbatch;
    rank_.begin_call(stage_);
    if (stage_ > 0 && !input) return fail(ErrorCode::kRuntime, "no input");
    const std::uint64_t x = stage_ > 0 ? word_in(input) : StageMath::input(microbatch);
    const std::uint64_t y = StageMath::forward(stage_, x);
    rank_.forwards[stage_] += y;
    rank_.end_call();
    ForwardResult result;
    if (!last_) result.output = make_word(y);
    if (for_backward) result.saved = make_word(x);
    return result;
  }
  Expected<BackwardInputResult> backward_input(PartOf at, Value saved,
                                               Value output_gradient) override {
    const int microbatch = at.microbatch;
    rank_.begin_call(stage_);
    if (!saved || (!last_ && !output_gradient)) return fail(ErrorCode::kRuntime, "no operand");
    const std::uint64_t g = last_ ? StageMath::loss_gradient(microbatch) : word_in(output_gradient);
    rank_.end_call();
    BackwardInputResult result;
    if (stage_ > 0) result.input_gradient = make_word(StageMath::backward(stage_, g));
    result.saved_for_weight = make_word(word_in(saved) * g);
    return result;
  }
  Expected<void> backward_weight(PartOf at, Value saved_for_weight) override {
    const int microbatch = at.microbatch;
    rank_.begin_call(stage_);
    if (!saved_for_weight) return fail(ErrorCode::kRuntime, "no operand");
    accumulate(microbatch, word_in(saved_for_weight));
    rank_.end_call();
    return {};
  }
  Expected<Value> backward(PartOf at, Value saved, Value output_gradient) override {
    const int microbatch = at.microbatch;
    rank_.begin_call(stage_);
    if (!saved || (!last_ && !output_gradient)) return fail(ErrorCode::kRuntime, "no operand");
    const std::uint64_t g = last_ ? StageMath::loss_gradient(microbatch) : word_in(output_gradient);
    accumulate(microbatch, word_in(saved) * g);
    rank_.end_call();
    return stage_ > 0 ? make_word(StageMath::backward(stage_, g)) : nullptr;
  }

 private:
  void accumulate(int microbatch, std::uint64_t gradient) {
    rank_.gradient[stage_] += gradient;
    rank_.accumulated[stage_].push_back(microbatch);
  }
  int stage_;
  bool last_;
  RankModel& rank_;
};

/// Lowers a list as it stands. Needs actions in range.
class UnprovenLowering {
 public:
  UnprovenLowering(const Schedule& schedule, int rank) : schedule_(schedule) {
    program_.rank = rank;
    program_.forward_only = schedule.forward_only;
  }

  RankProgram run(RankModel& model) {
    const std::vector<Action>& list = schedule_.ranks[static_cast<std::size_t>(program_.rank)];
    std::vector<Action> parameters;
    for (std::size_t begin = 0; begin < list.size();) {
      const std::size_t end = std::min(list.size(), begin + 1 + list[begin].members);
      const bool pair = list[begin].type == ActionType::kOverlapFB;
      if (pair) block_ = ++blocks_;
      const std::size_t first_call = model.calls.size();
      int starts = 0;
      int ends = 0;
      for (std::size_t i = begin; i < end; ++i) {
        const ActionType type = list[i].type;
        if (is_send_wait(type)) {
          wait_for_send(list[i], model);
        } else if (type >= ActionType::kUnshard) {
          parameters.push_back(list[i]);
          model.shards = model.shards || !is_reduction(type);
        } else if (is_compute(type)) {
          model.calls.push_back({std::exchange(parameters, {})});
          starts += type == ActionType::kForward && !schedule_.forward_only ? 1 : 0;
          ends += type == ActionType::kBackward || type == ActionType::kBackwardWeight ? 1 : 0;
          compute(list[i]);
        } else if (is_communication(type)) {
          message(list[i]);
        }
      }
      if (model.calls.size() > first_call) {
        model.calls[first_call].starts = starts;
        model.calls.back().ends = ends;
      }
      block_ = 0;
      begin = end;
    }
    model.after = std::move(parameters);
    if (model.waits && !sends_.empty()) model.fault = "keeps what it sent";
    return std::move(program_);
  }

 private:
  enum class Kind : std::uint8_t { kActivation, kGradient, kSaved, kSavedForWeight };
  struct Written {
    std::int32_t slot;
    std::int32_t writer;
    int block;
  };

  void compute(const Action& action) {
    Instruction instruction;
    instruction.action = action;
    instruction.lane = Lane::kCompute;
    const int stage = action.stage;
    const int mb = action.microbatch;
    switch (action.type) {
      case ActionType::kForward:
        instruction.opcode = Opcode::kForward;
        instruction.in[0] = read(instruction, Kind::kActivation, stage, mb);
        instruction.out[0] = write(Kind::kActivation, stage + 1, mb);
        instruction.out[1] = write(Kind::kSaved, stage, mb);
        break;
      case ActionType::kBackwardWeight:
        instruction.opcode = Opcode::kBackwardWeight;
        instruction.in[0] = read(instruction, Kind::kSavedForWeight, stage, mb);
        break;
      default:
        instruction.opcode =
            action.type == ActionType::kBackward ? Opcode::kBackward : Opcode::kBackwardInput;
        instruction.in[1] = read(instruction, Kind::kGradient, stage, mb);
        instruction.in[0] = read(instruction, Kind::kSaved, stage, mb);
        instruction.out[0] = write(Kind::kGradient, stage - 1, mb);
        if (action.type == ActionType::kBackwardInput)
          instruction.out[1] = write(Kind::kSavedForWeight, stage, mb);
    }
    last_compute_ = static_cast<std::int32_t>(program_.instructions.size());
    push(instruction);
  }

  void message(const Action& action) {
    Instruction instruction;
    instruction.action = action;
    instruction.lane = Lane::kCommunication;
    const bool forward = direction_of(action.type) == Direction::kForward;
    const bool send = is_send(action.type);
    const int other = other_end(action).stage;
    if (other >= 0 && other < schedule_.placement.stages())
      instruction.peer = schedule_.rank_of(other, action.microbatch);
    instruction.opcode = send ? Opcode::kSend : Opcode::kRecv;
    const Kind kind = forward ? Kind::kActivation : Kind::kGradient;
    if (send) {
      sends_[{action.type, action.stage, action.microbatch}] =
          static_cast<std::int32_t>(program_.instructions.size());
      instruction.in[0] = read(instruction, kind, other, action.microbatch);
    } else {
      instruction.out[0] = write(kind, action.stage, action.microbatch);
    }
    instruction.wait = last_compute_;
    push(instruction);
  }

  /// The list goes on when the send is over, which frees what was sent.
  void wait_for_send(const Action& action, RankModel& model) {
    const Action send = awaited_send(action);
    Instruction instruction;
    instruction.action = action;
    instruction.lane = Lane::kCompute;
    instruction.opcode = Opcode::kReduceNothing;  // any that is over when its wait is
    const auto sent = sends_.find({send.type, send.stage, send.microbatch});
    if (sent == sends_.end()) {
      model.fault = "waits for what it has not sent";
    } else {
      instruction.wait = sent->second;
      sends_.erase(sent);
    }
    last_compute_ = static_cast<std::int32_t>(program_.instructions.size());
    push(instruction);
  }

  void push(const Instruction& instruction) {
    program_.lanes[static_cast<std::size_t>(instruction.lane)].push_back(
        static_cast<std::int32_t>(program_.instructions.size()));
    program_.instructions.push_back(instruction);
  }
  std::int32_t write(Kind kind, int stage, int mb) {
    live_[{kind, stage, mb}] = {program_.slots,
                                static_cast<std::int32_t>(program_.instructions.size()), block_};
    return program_.slots++;
  }
  std::int32_t read(Instruction& instruction, Kind kind, int stage, int mb) {
    const auto found = live_.find({kind, stage, mb});
    if (found == live_.end() || (block_ > 0 && found->second.block == block_)) return kNoSlot;
    const Written written = found->second;
    live_.erase(found);
    if (program_.instructions[static_cast<std::size_t>(written.writer)].lane != instruction.lane)
      instruction.wait = written.writer;
    return written.slot;
  }

  const Schedule& schedule_;
  RankProgram program_;
  std::map<std::tuple<Kind, int, int>, Written> live_;
  std::map<std::tuple<ActionType, int, int>, std::int32_t> sends_;  // without a wait so far
  std::int32_t last_compute_ = kNoWait;
  int block_ = 0;  // 0 outside pairs
  int blocks_ = 0;
};

struct OracleResult {
  Outcome outcome = Outcome::kEnded;
  bool right = false;      ///< every loss and gradient
  bool ascending = false;  ///< gradients added up by ascending micro-batch
  std::vector<int> peaks;  ///< stage activations, by rank
  int most_whole = 0;      ///< stages of a rank that are unsharded at a time
  bool good() const { return outcome == Outcome::kEnded && right; }
};

class Oracle {
 public:
  explicit Oracle(const Schedule& schedule) : schedule_(schedule) {}

  OracleResult run(WorldOptions options, unsigned seed) {
    const auto ranks = schedule_.ranks.size();
    models_.assign(ranks, {});
    for (RankModel& model : models_) {
      model.waits = has_waits(schedule_);
      for (int stage = 0; stage < schedule_.placement.stages(); ++stage) {
        if (holders(stage).size() > 1) model.shared.insert(stage);
      }
    }
    std::vector<RankProgram> programs;
    for (std::size_t rank = 0; rank < ranks; ++rank)
      programs.push_back(UnprovenLowering(schedule_, static_cast<int>(rank)).run(models_[rank]));
    TestWorld world(static_cast<int>(ranks), options);
    std::vector<std::unique_ptr<OracleStage>> stages;
    std::vector<std::unique_ptr<Executor>> executors;
    for (std::size_t rank = 0; rank < ranks; ++rank) {
      std::vector<Stage*> by_stage;
      for (int stage = 0; stage < schedule_.placement.stages(); ++stage) {
        stages.push_back(
            std::make_unique<OracleStage>(stage, schedule_.placement.stages(), models_[rank]));
        by_stage.push_back(stages.back().get());
      }
      executors.push_back(std::make_unique<Executor>(programs[rank], std::move(by_stage),
                                                     world.comm(static_cast<int>(rank))));
    }
    OracleResult result;
    result.outcome = run_seeded(executors, world, seed);
    bool faults = false;
    for (RankModel& model : models_) {
      if (result.outcome == Outcome::kEnded) model.finish();
      result.peaks.push_back(model.peak);
      result.most_whole = std::max(result.most_whole, static_cast<int>(model.most_whole));
      faults = faults || !model.fault.empty();
    }
    result.ascending = ascends();
    // A reduction that a rank waits in for ever counts as wrong: the messages did end.
    result.right = result.outcome == Outcome::kEnded && reduce() && !faults && right();
    return result;
  }

 private:
  std::set<int> holders(int stage) const {
    std::set<int> ranks;
    for (int copy = 0; copy < schedule_.placement.copies; ++copy)
      ranks.insert(schedule_.placement.rank_of(stage, copy));
    return ranks;
  }

  /// The n-th reduction that the ranks of a communicator issue adds what each of them put in. False
  /// if one of them waits for ever.
  bool reduce() {
    std::map<std::set<int>, std::map<int, std::vector<std::pair<int, std::uint64_t>>>> issued;
    for (std::size_t rank = 0; rank < models_.size(); ++rank) {
      for (const auto& reduction : models_[rank].reductions)
        issued[holders(reduction.first)][static_cast<int>(rank)].push_back(reduction);
    }
    for (auto& [ranks, by_rank] : issued) {
      const std::size_t count = by_rank.begin()->second.size();
      for (const int rank : ranks) {
        if (by_rank[rank].size() != count) return false;
      }
      for (std::size_t i = 0; i < count; ++i) {
        std::uint64_t sum = 0;
        for (const int rank : ranks) sum += by_rank[rank][i].second;
        for (const int rank : ranks)
          models_[static_cast<std::size_t>(rank)].gradient[by_rank[rank][i].first] +=
              StageMath::reduce(sum);
      }
    }
    return true;
  }

  bool ascends() const {
    for (const RankModel& model : models_) {
      for (const auto& [stage, order] : model.accumulated) {
        std::map<int, int> last;  // by copy
        for (const int mb : order) {
          const auto before = last.find(schedule_.copy_of(mb));
          if (before != last.end() && before->second > mb) return false;
          last[schedule_.copy_of(mb)] = mb;
        }
      }
    }
    return true;
  }

  bool right() {
    const int stages = schedule_.placement.stages();
    std::vector<std::map<int, std::uint64_t>> forwards(models_.size());
    std::vector<std::map<int, std::uint64_t>> gradients(models_.size());
    for (int mb = 0; mb < schedule_.microbatches; ++mb) {
      std::vector<std::uint64_t> inputs{StageMath::input(mb)};
      for (int stage = 0; stage < stages; ++stage) {
        inputs.push_back(StageMath::forward(stage, inputs.back()));
        forwards[static_cast<std::size_t>(schedule_.rank_of(stage, mb))][stage] += inputs.back();
      }
      std::uint64_t gradient = StageMath::loss_gradient(mb);
      for (int stage = stages - 1; stage >= 0 && !schedule_.forward_only; --stage) {
        gradients[static_cast<std::size_t>(schedule_.rank_of(stage, mb))][stage] +=
            inputs[static_cast<std::size_t>(stage)] * gradient;
        gradient = StageMath::backward(stage, gradient);
      }
    }
    return matches(forwards, gradients);
  }

  bool matches(std::vector<std::map<int, std::uint64_t>>& forwards,
               std::vector<std::map<int, std::uint64_t>>& gradients) {
    std::set<int> reduced;
    for (const RankModel& model : models_) {
      for (const auto& reduction : model.reductions) reduced.insert(reduction.first);
    }
    for (const int stage : reduced) {
      std::uint64_t sum = 0;
      for (const int rank : holders(stage)) sum += gradients[static_cast<std::size_t>(rank)][stage];
      for (const int rank : holders(stage))
        gradients[static_cast<std::size_t>(rank)][stage] = StageMath::reduce(sum);
    }
    for (std::size_t rank = 0; rank < models_.size(); ++rank) {
      for (int stage = 0; stage < schedule_.placement.stages(); ++stage) {
        if (models_[rank].forwards[stage] != forwards[rank][stage]) return false;
        if (models_[rank].gradient[stage] != gradients[rank][stage]) return false;
      }
    }
    return true;
  }

  const Schedule& schedule_;
  std::vector<RankModel> models_;
};

}  // namespace plait::testing
