/// Counts the bytes of tensors by account, on whichever thread they are made and freed: of CPU
/// tensors by an allocator of its own, of GPU tensors as torch's allocator tells of its blocks.
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
  friend void charge_block(const void* data, Bytes bytes);
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

/// Told by another allocator, of every block that it gives out and takes back: charges the account
/// of the calling thread's scope, and credits the account that the block is charged to. Blocks that
/// were given out under no account are not counted. Thread-safe; about 100 ns.
void charge_block(const void* data, Bytes bytes);
void credit_block(const void* data);

/// Moves the tensor's storage from the account it is charged to, to `account`. False if the storage
/// is not counted. The caller is the only user of the storage's header:
/// do it where a message is handed over.
bool recharge(const at::Tensor& tensor, MemoryAccount& account);

}  // namespace plait
