/// Counts the bytes of CPU tensors by account, on whichever thread they are made and freed.
///
/// A rank has one account for its step and one for what stays (parameters, gradients, optimiser
/// state, receive buffers): live() of the first is then its activation bytes. Preallocate .grad
/// under the second; gradients accumulate in place.
#pragma once

#include <ATen/core/Tensor.h>

#include "plait/base/units.h"

namespace plait {

/// Handle to a counter. Blocks may outlive it. Thread-safe.
class MemoryAccount {
 public:
  MemoryAccount();
  ~MemoryAccount();
  MemoryAccount(const MemoryAccount&) = delete;
  MemoryAccount& operator=(const MemoryAccount&) = delete;

  Bytes live() const;
  /// Highest live() since the last reset_peak(), or since it was made.
  Bytes peak() const;
  void reset_peak();
  /// peak(), and reset_peak() at once.
  Bytes take_peak();

  struct Counter;

 private:
  friend class ScopedAccount;
  friend bool recharge(const at::Tensor& tensor, MemoryAccount& account);
  Counter* counter_;
};

/// Charges what the calling thread allocates to `account` until the scope ends; scopes nest.
/// Intra-op worker threads charge nobody.
class ScopedAccount {
 public:
  explicit ScopedAccount(MemoryAccount& account);
  ~ScopedAccount();
  ScopedAccount(const ScopedAccount&) = delete;
  ScopedAccount& operator=(const ScopedAccount&) = delete;

 private:
  MemoryAccount::Counter* before_;
};

/// Makes torch's CPU tensors come from the counting allocator from now on; call it before the first
/// thread that makes tensors. Idempotent. 64 bytes more a tensor, about 20 ns a call.
void install_counting_allocator();

/// Moves the tensor's storage from the account it is charged to, to `account`. False if the storage
/// did not come from the counting allocator. The caller is the only user of the storage's header:
/// do it where a message is handed over.
bool recharge(const at::Tensor& tensor, MemoryAccount& account);

}  // namespace plait
