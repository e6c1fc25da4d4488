#include "plait/braid/layer_order.h"

namespace plait {

std::string LayerWord::text() const {
  return kind + (of == SegmentOf::kForward ? ".F" : of == SegmentOf::kBackwardInput ? ".B" : ".W");
}

LayerOrder default_layer_order() {
  constexpr SegmentOf kF = SegmentOf::kForward;
  constexpr SegmentOf kB = SegmentOf::kBackwardInput;
  constexpr SegmentOf kW = SegmentOf::kBackwardWeight;
  return {{{"attn", kF}, {"mlp", kB}, {"mlp", kW}, {"mlp", kF}, {"attn", kB}, {"attn", kW}},
          {{"combine", kB}, {"counts", kF}, {"dispatch", kF}, {"dispatch", kB}, {"combine", kF}}};
}

}  // namespace plait
