#include "output_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>

#include "base/checked.h"

namespace planck {

namespace {

constexpr int64_t kHugePage = 2 << 20;

}  // namespace

// What an array holds; memory outlives the plan that it came from.
struct OutputMemory::Lease {
  Lease(std::shared_ptr<OutputMemory> from, const Block& taken)
      : home(std::move(from)), block(taken) {}
  ~Lease() { home->give(block); }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  std::shared_ptr<OutputMemory> home;
  Block block;
};

OutputMemory::~OutputMemory() {
  for (const Block& block : kept_) std::free(block.data);
}

py::array OutputMemory::array(const py::dtype& dtype, const Shape& shape) {
  const int64_t bytes =
      checked_mul(checked_count(shape), int64_t{dtype.itemsize()}, "bytes of an output");
  if (bytes < kHugePage) return {dtype, shape};
  const Block block = take(static_cast<size_t>(bytes));
  auto lease = std::make_unique<Lease>(shared_from_this(), block);
  const py::capsule owner(lease.get(), [](void* held) { delete static_cast<Lease*>(held); });
  static_cast<void>(lease.release());  // the capsule's now
  return {dtype, shape, block.data, owner};
}

OutputMemory::Block OutputMemory::take(size_t bytes) {
  {
    const std::lock_guard lock(mutex_);
    const auto same = std::ranges::find(kept_, bytes, &Block::bytes);
    if (same != kept_.end()) {
      const Block block = *same;
      kept_.erase(same);
      return block;
    }
  }
  const auto whole = static_cast<size_t>(round_up(static_cast<int64_t>(bytes), kHugePage));
  void* data = std::aligned_alloc(kHugePage, whole);
  if (data == nullptr) {
    PyErr_NoMemory();
    throw py::error_already_set();
  }
  madvise(data, whole, MADV_HUGEPAGE);  // a hint; without it there are more faults
  return {data, bytes};
}

void OutputMemory::give(const Block& block) {
  const std::lock_guard lock(mutex_);
  kept_.push_back(block);
  if (kept_.size() <= most_) return;
  std::free(kept_.front().data);
  kept_.pop_front();
}

}  // namespace planck
