#pragma once
// Memory for generated code. A page is writable or executable, never both (W^X).
#include <cstdint>
#include <span>

namespace planck::jit {

// Copies position-independent code into pages of its own and makes them executable. The pages are
// released with the object. Throws OutOfMemoryError where the system gives none, and DeviceError
// where it forbids generated code.
class ExecutableCode {
 public:
  explicit ExecutableCode(std::span<const uint8_t> code);
  ~ExecutableCode();
  ExecutableCode(ExecutableCode&& from) noexcept;
  ExecutableCode& operator=(ExecutableCode&&) = delete;

  template <class Function>
  Function entry() const {
    return reinterpret_cast<Function>(pages_);
  }

 private:
  void* pages_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace planck::jit
