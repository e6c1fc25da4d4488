/// The unit in which a picture's times are written.
#pragma once

#include <array>
#include <string_view>

#include "plait/base/units.h"

namespace plait {

struct PictureUnit {
  std::string_view name;
  double nanoseconds;
};

/// The largest of ns, us, ms and s of which `span` has ten.
inline PictureUnit picture_unit(Nanoseconds span) {
  constexpr std::array kUnits{PictureUnit{"ns", 1}, PictureUnit{"us", 1e3}, PictureUnit{"ms", 1e6},
                              PictureUnit{"s", 1e9}};
  PictureUnit best = kUnits.front();
  for (const PictureUnit& unit : kUnits) {
    if (static_cast<double>(span) >= 10 * unit.nanoseconds) best = unit;
  }
  return best;
}

}  // namespace plait
