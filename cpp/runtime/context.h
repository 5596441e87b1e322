#pragma once
// One caller's private state: a team, an arena, and the bindings made so far.
#include <atomic>
#include <list>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/team.h"
#include "runtime/memory.h"
#include "runtime/session.h"

namespace planck {

// Everything that depends on the exact shapes. It holds offsets only; addresses are set for each
// run.
struct Binding {
  Phase phase;  // whose steps these are
  std::vector<BoundValue> values;
  MemoryPlan memory;
  std::vector<BoundStep> steps;
  std::vector<Job> jobs;
  std::vector<size_t> step_of;  // of each job, in the plan
  struct Patch {
    void** slot;
    int32_t buffer;
    int64_t bytes;  // from the start of the buffer
  };
  std::vector<Patch> patches;
  int64_t scratch_bytes = 0;
};

std::unique_ptr<Binding> make_binding(const Plan& plan, const Bindings& bindings,
                                      const Phases& phases, size_t phase = 0);
// What a run of that binding takes.
MemoryNeed memory_need(const Plan& plan, const Bindings& bindings);
// Where each buffer that the binding's phase touches first begins in a run.
void find_bases(const Plan& plan, const Phases& phases, size_t phase, const Binding& binding,
                std::byte* arena, std::span<const void* const> inputs,
                std::span<void* const> outputs, std::vector<std::byte*>& bases);

// Huge-page friendly memory that only grows.
class Arena {
 public:
  Arena() = default;
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  // At least this many bytes; true if it had to grow (its contents are lost then).
  bool reserve(int64_t bytes);
  // What the system maps for an arena of this size.
  static int64_t mapped(int64_t bytes);
  std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
};

// Counted by the one caller that holds the context, read by anybody.
struct ContextStats {
  std::atomic<int64_t> runs{0}, bindings{0}, allocations{0}, copies{0}, arena_bytes{0};
};

class Context {
 public:
  // `limits` outlive the context.
  Context(const Plan& plan, int threads, const Limits& limits,
          Denormals denormals = Denormals::compute);

  void run(std::span<const Feed> feeds, OutputSink& sink, const RunOptions& options);
  // The extents of the last run, those that it found out as well.
  const Bindings& extents() const { return extents_; }
  ContextStats stats;

 private:
  using Key = std::vector<int64_t>;
  struct KeyHash {
    size_t operator()(const Key& key) const;
  };
  struct Entry {
    std::unique_ptr<Binding> binding;
    std::list<Key>::iterator used;
  };

  Binding& binding_for(size_t phase);
  void run_phase(size_t phase, OutputSink& sink, const Guard* guard, Trace* trace);
  void learn_extents(const Binding& binding);
  void set_addresses(size_t phase, Binding& binding, OutputSink& sink);
  void check_memory(const Binding& binding) const;
  void run_jobs(const Binding& binding, const Guard* guard, Trace* trace);
  const void* converted(const Feed& feed, DType want, size_t index);

  const Plan& plan_;
  const Limits& limits_;
  bool by_reference_;  // a step runs by its reference, which takes memory of its own
  Team team_;
  const Phases phases_;
  std::vector<Arena> arenas_;  // of each phase
  int64_t scratch_bytes_ = 0;
  std::unordered_map<Key, Entry, KeyHash> bindings_;
  std::list<Key> recent_;  // front: used last
  // Reused by every run, so that a repeated shape allocates nothing.
  Key key_;
  Bindings extents_;
  std::vector<Tensor> late_;  // what brought its own memory
  std::vector<const Feed*> matched_;
  std::vector<const void*> input_data_;
  std::vector<void*> output_data_;
  std::vector<std::vector<std::byte>> staging_;
  std::vector<std::byte*> bases_;
};

}  // namespace planck
