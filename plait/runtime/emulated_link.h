/// A comm that delays what arrives as a link of given latency and bandwidth would. For experiments:
/// whoever uses it says that the link is emulated.
#pragma once

#include <memory>

#include "plait/base/units.h"
#include "plait/runtime/comm.h"

namespace plait {

struct EmulatedLink {
  Nanoseconds latency = 0;
  Bytes bytes_per_s = 0;  ///< of one rank's way out; 0: no limit

  bool is_given() const { return latency > 0 || bytes_per_s > 0; }
};

/// One rank's end over another comm. A rank's messages and collectives leave one after the other:
/// each is handed to the comm below when the bytes before it and its own have gone out, `latency`
/// later. Of a collective the bytes that leave the rank count. Thread-safe; has a thread of its
/// own.
class DelayedComm final : public Comm {
 public:
  /// `below` must outlive it.
  DelayedComm(Comm& below, const EmulatedLink& link);
  ~DelayedComm() override;

  void send(const Message& message, Value value, std::uint32_t token,
            CompletionSink& sink) override;
  void recv(const Message& message, const ValueSpec& spec, std::uint32_t token,
            CompletionSink& sink) override;
  void collective(const Collective& which, std::unique_ptr<ExchangeValue> value,
                  std::uint32_t token, CompletionSink& sink) override;
  void abort(const Error& error) override;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace plait
