#pragma once
// A plan ready to run, from any number of threads.
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/float_state.h"
#include "base/guard.h"
#include "plan/plan.h"

namespace planck {

// A dense array given for an input. int32 is taken where the model says int64, and the reverse
// where every value fits.
struct Feed {
  std::string_view name;
  DType dtype;
  std::span<const int64_t> shape;
  const void* data;
};

// Asked once for each output when its shape is known, in the plan's order where the inputs decide
// all shapes: where to write it.
// The memory must hold the dense array and stay valid until run returns.
class OutputSink {
 public:
  virtual ~OutputSink() = default;
  virtual void* output(size_t index, const PlanPort& port, std::span<const int64_t> shape) = 0;
};

// What happened since the session was made.
struct SessionStats {
  int64_t runs = 0;
  int64_t bindings = 0;     // made, one for each new set of shapes in each context
  int64_t allocations = 0;  // of arenas, staging buffers and scratch; a repeated shape makes none
  int64_t copies = 0;       // of feeds that had to be converted
  int64_t arena_bytes = 0;  // of all contexts
  static void fields(auto& s, auto& visit) {
    visit("runs", s.runs);
    visit("bindings", s.bindings);
    visit("allocations", s.allocations);
    visit("copies", s.copies);
    visit("arena_bytes", s.arena_bytes);
  }
};

// A tensor of a run, the largest one of the buffer that it lies in.
struct TensorNeed {
  std::string name;  // the ONNX tensor; empty for one of ours
  BufferKind kind = BufferKind::arena;
  DType dtype = DType::f32;
  Shape shape;
  int64_t bytes = 0;
};

// What a run on given shapes takes, known before it. All in bytes.
struct MemoryNeed {
  int64_t arena_bytes = 0;    // that the system maps: whole huge pages
  int64_t packed_bytes = 0;   // of the arena, that tensors lie in
  int64_t scratch_bytes = 0;  // of each thread
  int64_t constant_bytes = 0;
  int64_t input_bytes = 0;
  int64_t output_bytes = 0;
  std::vector<TensorNeed> tensors;  // the largest first, constants left out
  static void fields(auto& s, auto& visit) {
    visit("arena_bytes", s.arena_bytes);
    visit("packed_bytes", s.packed_bytes);
    visit("scratch_bytes", s.scratch_bytes);
    visit("constant_bytes", s.constant_bytes);
    visit("input_bytes", s.input_bytes);
    visit("output_bytes", s.output_bytes);
  }
};

// What one step of a run took, and the floating-point operations of its products.
struct StepTime {
  double seconds = 0, flops = 0;
};
using Trace = std::vector<StepTime>;  // in the order of the plan's steps

struct SessionOptions {
  int threads = 0;                           // 0: PLANCK_THREADS, else affinity and cgroup quota
  Limits limits;                             // max_tensor_bytes, max_arena_bytes, run_timeout
  Denormals denormals = Denormals::compute;  // in the steps of runs
};

struct RunOptions {
  double timeout = 0;                    // seconds; 0: the limit run_timeout
  std::shared_ptr<const Cancel> cancel;  // from any thread
  Trace* trace = nullptr;                // costs a reading of the clock for each step
};

class Session {
 public:
  explicit Session(std::shared_ptr<const Plan> plan, SessionOptions options = {});
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Runs the plan. Any number of threads may call it: the first has the team of threads, further
  // ones run on their own thread at once, with the same bits. Throws FeedError for arrays that do
  // not fit, RunError for values that are wrong, LimitError, TimeoutError and CancelledError; the
  // session stays usable. A run ends within 10 ms, or a tile of a kernel, of what it is asked.
  void run(std::span<const Feed> feeds, OutputSink& sink, const RunOptions& options = {});

  // What a run on feeds of these shapes takes; their data are not looked at, and nothing of it is
  // allocated. Throws FeedError for shapes that do not fit, LimitError for max_tensor_bytes,
  // UnsupportedError where shapes depend on data.
  MemoryNeed memory(std::span<const Feed> feeds) const;

  const Plan& plan() const;
  int threads() const;
  Denormals denormals() const;
  SessionStats stats() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace planck
