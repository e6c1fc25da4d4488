/// Reads back what print_chrome_trace (timeline.h) writes.
#pragma once

#include <string>
#include <string_view>

#include "plait/base/error.h"
#include "plait/timeline/timeline.h"

namespace plait {

/// Times of a file are below 2^53 ns, 104 days: whole in the doubles of JSON's other readers.
inline constexpr Nanoseconds kMaxTimelineNanoseconds = (Nanoseconds{1} << 53) - 1;

/// True if a text is meant as a trace, no matter whether it is one of ours: JSON that has
/// traceEvents or is an array, as Chrome's other form. No schedule looks so. Cost: O(text).
bool looks_like_trace(std::string_view text);

/// The timeline of a trace of version 1.
///
/// Takes begin_ns and end_ns as the times; ts and dur, which Perfetto shows, must agree with them.
/// Of the events it reads the complete ones ("ph": "X") and the names of processes, one for each
/// rank; those of any other phase it leaves alone. `name` is the file's, for messages.
/// Errors (kInvalidInput): no JSON, with line and column; a trace of another program; another
/// version; no events; a time that is no whole number from 0 to kMaxTimelineNanoseconds, an end
/// before its begin; a rank, a lane or an action that is not there, with the event's JSON pointer.
/// Cost: O(text); no document is held, so memory is that of the events.
Expected<Timeline> read_timeline(std::string_view text, const std::string& name);

}  // namespace plait
