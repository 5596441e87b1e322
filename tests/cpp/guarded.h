#pragma once
// Operands between forbidden pages: generated code that reads or writes one byte beyond them ends
// in a fault, which sanitizers cannot see for it.
#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <stdexcept>

namespace planck {

// `count` floats that end right before (or begin right after) a page without access.
class GuardedFloats {
 public:
  enum class Guard { after, before };
  explicit GuardedFloats(int64_t count, Guard guard = Guard::after) : count_(count) {
    const int64_t used = (count * 4 + kPage - 1) / kPage * kPage;
    bytes_ = used + 2 * kPage;
    void* all = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) throw std::runtime_error("no memory for guarded floats");
    all_ = static_cast<char*>(all);
    mprotect(all_, kPage, PROT_NONE);
    mprotect(all_ + kPage + used, kPage, PROT_NONE);
    char* at = guard == Guard::before ? all_ + kPage : all_ + kPage + used - count * 4;
    data_ = reinterpret_cast<float*>(at);
  }
  ~GuardedFloats() { munmap(all_, bytes_); }
  GuardedFloats(const GuardedFloats&) = delete;
  GuardedFloats& operator=(const GuardedFloats&) = delete;

  float* data() const { return data_; }
  int64_t size() const { return count_; }
  float& operator[](int64_t i) const { return data_[i]; }
  std::span<float> span() const { return {data_, static_cast<size_t>(count_)}; }

  void fill(float value) {
    for (int64_t i = 0; i < count_; ++i) data_[i] = value;
  }
  void randomize(uint32_t seed, float scale = 1) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<float> uniform(-scale, scale);
    for (int64_t i = 0; i < count_; ++i) data_[i] = uniform(random);
  }
  void read_only() { mprotect(all_ + kPage, bytes_ - 2 * kPage, PROT_READ); }

 private:
  static constexpr int64_t kPage = 4096;
  int64_t count_, bytes_;
  char* all_;
  float* data_;
};

// The same for elements of any type; the first lies where alignment allows it.
template <class T>
class Guarded {
 public:
  explicit Guarded(int64_t count)
      : floats_((count * static_cast<int64_t>(sizeof(T)) + 3) / 4), count_(count) {}
  T* data() const {
    char* end = reinterpret_cast<char*>(floats_.data() + floats_.size());
    return reinterpret_cast<T*>(end - count_ * static_cast<int64_t>(sizeof(T)));
  }
  int64_t size() const { return count_; }
  T& operator[](int64_t i) const { return data()[i]; }

 private:
  GuardedFloats floats_;
  int64_t count_;
};
using GuardedBytes = Guarded<uint8_t>;

}  // namespace planck
