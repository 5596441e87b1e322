#include "kernels/jit/code.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "base/checked.h"
#include "base/error.h"

namespace planck::jit {

ExecutableCode::ExecutableCode(std::span<const uint8_t> code)
    : bytes_(round_up(static_cast<int64_t>(code.size()), sysconf(_SC_PAGESIZE))) {
  void* pages = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) {
    throw with(OutOfMemoryError("no memory for ", bytes_, " bytes of code"), {.need = bytes_});
  }
  std::memcpy(pages, code.data(), code.size());
  if (mprotect(pages, bytes_, PROT_READ | PROT_EXEC) != 0) {
    munmap(pages, bytes_);
    throw DeviceError("this system forbids generated code; PLANCK_MAX_ISA=portable avoids it");
  }
  pages_ = pages;
}

ExecutableCode::~ExecutableCode() {
  if (pages_ != nullptr) munmap(pages_, bytes_);
}

ExecutableCode::ExecutableCode(ExecutableCode&& from) noexcept
    : pages_(std::exchange(from.pages_, nullptr)), bytes_(from.bytes_) {}

}  // namespace planck::jit
