#pragma once
// Memory of large outputs. A fresh page costs a fault and is cleared, which together takes longer
// than writing it: what Python is done with serves the next run.
#include <pybind11/numpy.h>

#include <deque>
#include <memory>
#include <mutex>

#include "base/tensor.h"
#include "bindings.h"

namespace planck {

class OutputMemory : public std::enable_shared_from_this<OutputMemory> {
 public:
  // Keeps that many blocks, those given back last.
  explicit OutputMemory(size_t most) : most_(most) {}
  ~OutputMemory();
  OutputMemory(const OutputMemory&) = delete;
  OutputMemory& operator=(const OutputMemory&) = delete;

  // A new array, not filled, whose memory comes back when nothing in Python refers to it any more.
  // Small ones are NumPy's own. error_already_set (MemoryError) where there is no memory.
  py::array array(const py::dtype& dtype, const Shape& shape);

 private:
  struct Block {
    void* data = nullptr;
    size_t bytes = 0;
  };
  struct Lease;

  Block take(size_t bytes);
  void give(const Block& block);

  const size_t most_;
  std::mutex mutex_;
  std::deque<Block> kept_;
};

}  // namespace planck
