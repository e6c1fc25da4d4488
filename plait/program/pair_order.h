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

/// One order for both lanes: each lane runs its own steps in this order, and every step stands
/// behind the steps that it needs, so that one thread can issue them all.
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
/// Otherwise by exchanges, for any other stages. Each side's parts, in the order in which that side
/// runs them, are cut behind each exchange; round i takes piece i of the backward, then piece i of
/// the forward. Two stages of parts a x b y c, of which x and y are exchanges:
///
///   round              0           1           2
///   forward's piece    a x         b y         c
///   backward's piece   c y         b x         a
///   compute lane       cB cW aF    bB bW bF    aB aW cF
///   communication      yB xF       xB yF
///
/// So the backward's exchange yB passes under the forward's aF, and xF under bB and bW. A backward
/// without exchanges runs behind the forward's first piece instead, under that piece's exchange.
/// Such an order never waits in a circle.
///
/// The lanes are joined as early as possible, the communication lane first. Cost: O(parts * words).
///
/// Errors: a word that stands twice; W or R on the communication lane; by layers: a part on the
/// other lane than its word, a part without its word, lanes that wait in a circle (which is named).
Expected<PairOrder> make_pair_order(const LayerOrder& order, const std::vector<PartShape>& forward,
                                    const std::vector<PartShape>& backward, bool whole);

}  // namespace plait
