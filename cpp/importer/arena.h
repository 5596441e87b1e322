#pragma once
#include <cstddef>
#include <utility>

#include "base/tensor.h"

namespace planck::importer {

// Uninitialised memory for many large tensors. Most exporters' payloads are not aligned to their
// elements and must be copied, and then page faults cost more than the copying: large blocks of
// huge pages have few of them.
class Arena {
 public:
  // Writable bytes, aligned to a cache line, and who keeps them.
  std::pair<std::byte*, Owner> take(size_t size);

 private:
  std::shared_ptr<std::byte> block_;
  size_t used_ = 0, size_ = 0;
};

}  // namespace planck::importer
