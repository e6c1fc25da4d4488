/// The losses of a run as a curve of text. Knows no torch.
#pragma once

#include <string>
#include <vector>

#include "plait/record/step_report.h"

namespace plait {

/// A line that says first and last, `rows` lines of curve, and a line with the first and the last
/// step. The curve is of braille signs, two by four points each, its points the means of the steps
/// that fall on them; an o is a validation. `losses` holds a point at least, steps ascend, losses
/// are finite. UTF-8; no line is wider than `columns`, which are at least 20. Cost: O(steps).
std::vector<std::string> draw_losses(const std::vector<LossPoint>& losses,
                                     const std::vector<LossPoint>& validations, int columns,
                                     int rows);

}  // namespace plait
