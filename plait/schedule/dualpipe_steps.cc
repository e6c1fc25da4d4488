#include "plait/schedule/dualpipe_steps.h"

#include <cstddef>
#include <utility>

namespace plait {
namespace {

/// Step 4: pairs of forward and backward, the phases in turn. Where the directions meet the very
/// first would wait for itself: it is apart. The forward and the backward that phase `less` does
/// not have are missing from the first two pairs that hold them, which all ranks come to about the
/// same time: later ones would leave a gap.
void write_dualpipe_pairs(TwoPhaseWriter& writer, int pairs, bool innermost,
                          std::optional<int> less) {
  for (int pair = 0; pair < pairs; ++pair) {
    const int phase = pair % 2;
    if (less && (pair == *less || pair == *less + 1)) {
      phase == *less ? writer.backward(1 - phase) : writer.forward(phase);
    } else if (pair == 0 && innermost) {
      writer.forward(phase);
      writer.backward(1 - phase);
    } else {
      writer.pair(phase, 1 - phase);
    }
  }
}

}  // namespace

void write_dualpipe_rank(TwoPhaseWriter writer, int half, int depth, int microbatches,
                         std::optional<int> less) {
  const int below = half - 1 - depth;  // ranks further on before the directions meet
  const int pairs = 2 * (microbatches - 2 * half + depth + 1) + below - (below == 0 ? 1 : 0);
  const int split = 2 * half - depth - 1;
  writer.reserve(4 * static_cast<std::size_t>(microbatches) + static_cast<std::size_t>(pairs) +
                 static_cast<std::size_t>(split));
  // 1. Forwards of phase 0 until the first of phase 1 arrives.
  for (int i = 0; i < 2 * below; ++i) writer.forward(0);
  // 2. Forwards both ways.
  for (int i = 0; i <= depth; ++i) {
    writer.forward(0);
    writer.forward(1);
  }
  // 3. The first backwards, split so that the neighbour gets its gradient sooner.
  for (int i = 0; i < below; ++i) {
    writer.backward_input(1);
    writer.backward_weight();
    writer.forward(1);
  }
  // 4. Pairs both ways.
  write_dualpipe_pairs(writer, 2 * (microbatches - 2 * half + depth + 1), below == 0, less);
  // 5. No forwards of phase 0 are left.
  for (int i = 0; i < below; ++i) {
    writer.backward(1);
    writer.pair(1, 0);
  }
  // 6. Backwards both ways, from the middle on with W put off to fill the drain.
  bool late = false;
  for (int i = 0; i <= depth; ++i) {
    if (i == (depth + 1) / 2 && depth % 2 == 1) late = true;
    late ? writer.backward_input(1) : writer.backward(1);
    if (i == depth / 2 && depth % 2 == 0) late = true;
    late ? writer.backward_input(0) : writer.backward(0);
  }
  // 7. W where the rank would wait for a gradient.
  for (int i = 0; i < below; ++i) {
    writer.backward_weight();
    writer.backward_input(0);
  }
  // 8. The rest of W.
  for (int i = 0; i <= depth; ++i) writer.backward_weight();
}

}  // namespace plait
