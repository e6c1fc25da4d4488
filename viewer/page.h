/// The page that shows timelines, as text without its data.
#pragma once

#include <string_view>

namespace plait::viewer {

/// Where the data belongs: JSON inside a script element, in which no `<` may stand.
inline constexpr std::string_view kDataMark = "{{DATA}}";

/// HTML that needs no other file and no network; kDataMark stands in it once.
std::string_view page();

}  // namespace plait::viewer
