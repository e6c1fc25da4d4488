/// Messages and collectives between processes over c10d's Gloo.
#pragma once

#include <c10/util/intrusive_ptr.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/program/grid.h"
#include "plait/runtime/comm.h"
#include "plait/torch/memory.h"

namespace c10d {
class Backend;
class Store;
}  // namespace c10d
namespace gloo::transport {
class Device;
}  // namespace gloo::transport

namespace plait {

/// Makes Gloo process groups that share their network devices.
class GlooGroups {
 public:
  /// `address`: of rank 0's store. GLOO_SOCKET_IFNAME chooses the network, else it is loopback
  /// where all ranks are on this machine, or this machine's address. Throws what c10d throws.
  /// Errors: as of gloo_interfaces() (rendezvous.h).
  static Expected<GlooGroups> choose(const std::string& address, double start_timeout_s);
  /// Blocks until all `ranks` have come with this `name`. Waits in the group never run out. Throws
  /// what c10d throws.
  c10::intrusive_ptr<c10d::Backend> make(const c10::intrusive_ptr<c10d::Store>& store,
                                         const std::string& name, int rank, int ranks) const;

 private:
  std::vector<std::shared_ptr<gloo::transport::Device>> devices_;
  double start_timeout_s_ = 0;
};

/// What a process group's exception means: `who` closed the connection, or did not answer in time.
Error gloo_error(const std::exception& exception, const std::string& who);

/// The numbers by which Gloo tells the tensors of messages apart, between two ranks and in one
/// step. Dense: a job of S stages, M micro-batches and T tensors a value uses 2 S M T of them.
struct MessageTags {
  int stages = 1;
  int microbatches = 1;
  int tensors = 1;  ///< most tensors of one value

  /// Errors (kInvalidInput): there are more than Gloo has.
  Expected<void> check() const;
  int of(const Message& message, std::size_t tensor) const;
};

struct GlooOptions {
  Grid grid;
  int rank = 0;
  MessageTags tags;
  MemoryAccount* receive_buffers = nullptr;  ///< what comes is charged to it
};

/// One process's end. A tensor of a message has a tag of its own, so messages match in any order;
/// its bytes travel as they are, of any dtype. Waits run on threads per peer and direction, and per
/// group, each wait once with the whole timeout: a Gloo wait cannot be polled and a work that
/// nobody waits for is lost. Thread-safe.
class GlooComm final : public Comm {
 public:
  /// `all`: of all ranks. `groups`: those of more than one member that this rank is in.
  GlooComm(const GlooOptions& options, c10::intrusive_ptr<c10d::Backend> all,
           std::map<Group, c10::intrusive_ptr<c10d::Backend>> groups);
  /// After an abort the waits under way go on in threads of their own, for as long as the process
  /// lives: leave it with _exit.
  ~GlooComm() override;

  void send(const Message& message, Value value, std::uint32_t token,
            CompletionSink& sink) override;
  void recv(const Message& message, const ValueSpec& spec, std::uint32_t token,
            CompletionSink& sink) override;
  void collective(const Collective& which, std::unique_ptr<ExchangeValue> value,
                  std::uint32_t token, CompletionSink& sink) override;
  void abort(const Error& error) override;

 private:
  struct State;
  std::shared_ptr<State> state_;  // shared with the waiter threads, which may outlive this
};

}  // namespace plait
