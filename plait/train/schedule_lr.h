/// The learning rate of a step: linear warm-up, then a cosine down to a share. No torch.
#pragma once

#include "plait/config/job_config.h"

namespace plait {

/// `step` counts from 0 to steps - 1. Step s of the w warm-up steps gets lr * (s + 1) / w; the
/// cosine goes from lr at step w to lr * min_lr_share at step `steps`, one past the last.
double learning_rate(const OptimizerConfig& optimizer, int step, int steps);

}  // namespace plait
