#include "importer/arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <new>

namespace planck::importer {
namespace {

constexpr size_t kLine = 64, kHugePage = size_t{2} << 20, kBlock = size_t{32} << 20;

std::shared_ptr<std::byte> allocated(size_t size, size_t alignment) {
  const auto align = static_cast<std::align_val_t>(alignment);
  auto* block = static_cast<std::byte*>(::operator new(size, align));
  return {block, [align](std::byte* p) { ::operator delete(p, align); }};
}

size_t rounded(size_t size, size_t to) { return (size + to - 1) / to * to; }

}  // namespace

std::pair<std::byte*, Owner> Arena::take(size_t size) {
  if (size < kHugePage / 4) {
    const auto small = allocated(std::max(size, size_t{1}), kLine);
    return {small.get(), small};
  }
  if (block_ == nullptr || size_ - used_ < size) {
    size_ = std::max(kBlock, rounded(size, kHugePage));
    used_ = 0;
    block_ = allocated(size_, kHugePage);
    madvise(block_.get(), size_, MADV_HUGEPAGE);  // a hint; without it the faults are small ones
  }
  std::byte* out = block_.get() + used_;
  used_ += rounded(size, kLine);
  used_ = std::min(used_, size_);
  return {out, Owner(block_, out)};
}

}  // namespace planck::importer
