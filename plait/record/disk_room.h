/// Room on a disk that is kept for what is written later.
#pragma once

#include <string>

#include "plait/base/error.h"
#include "plait/base/units.h"

namespace plait {

/// The room is that of a file without a name, so that nothing is left of it when the process ends,
/// however it ends. Where a file system cannot say what it gives away nothing is kept.
class DiskRoom {
 public:
  DiskRoom() = default;
  DiskRoom(DiskRoom&& other) noexcept;
  DiskRoom& operator=(DiskRoom&& other) noexcept;
  ~DiskRoom();

  /// `bytes` on the disk of `folder`. Errors (kIo): the disk, or the user's share of it, has no
  /// room for them.
  static Expected<DiskRoom> take(const std::string& folder, Bytes bytes);
  /// For what it was kept for.
  void give_back();

 private:
  int file_ = -1;
};

}  // namespace plait
