/// The order of a real pair: the parts of two stages laid on two lanes by a layer order.
#pragma once

#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/program/layer_order.h"
#include "plait/program/part.h"

namespace plait {

/// Part `part` of the forward's stage, or of the backward's.
struct PairStep {
  SegmentOf of = SegmentOf::kForward;
  int part = 0;

  friend bool operator==(const PairStep&, const PairStep&) = default;
};

/// One order for both lanes: each lane takes its own of it, and every step stands behind what it
/// needs, so that one thread can issue it too.
using PairOrder = std::vector<PairStep>;

/// F runs the forward stage's parts from the first to the last; B the backward stage's from the
/// last to the first, without those that have no backward; with `whole`, the W of a compute part
/// comes after its B. The R of a part that is recomputed stands where its word does, and without
/// one right before its B.
///
/// By layers, if both stages have units and every part answers to a word: units stand in order,
/// each part of a unit has a kind of its own that the layer order knows, and behind the units there
/// is no exchange. Round i runs the words on the forward's unit i and on the backward's i-th unit
/// from its end; words without a part are left out, and where one stage has fewer units the later
/// rounds are the other's alone. The backward's tail (B and W) runs before the first round, the
/// forward's tail behind the forward's last.
///
/// Otherwise by exchanges, for any other stages: round i runs on the compute lane what the backward
/// has before its i-th exchange (B, then W) and what the forward has before its own, then these two
/// exchanges on the other lane; so each side's exchange passes under the other side's compute.
/// A backward without exchanges runs behind the forward's first part instead, under its exchange.
/// Such an order never waits in a circle.
///
/// The lanes are joined as early as possible, the communication lane first. Cost: O(parts * words).
///
/// Errors: a word that stands twice; W or R on the communication lane; by layers: a part on the
/// other lane than its word, a part without its word, lanes that wait in a circle (which is named).
Expected<PairOrder> make_pair_order(const LayerOrder& order, const std::vector<PartShape>& forward,
                                    const std::vector<PartShape>& backward, bool whole);

}  // namespace plait
