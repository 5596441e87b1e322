#pragma once
// A plan run step by step, with every buffer in view between steps. The same jobs as Session::run,
// so the same bits; the plan is only read.
#include <memory>
#include <span>
#include <vector>

#include "base/team.h"
#include "runtime/context.h"

namespace planck {

class Replay {
 public:
  // `inputs` in the plan's order; they stay alive as long as the replay.
  Replay(const Plan& plan, std::vector<Tensor> inputs, int threads, Denormals denormals);

  // What the inputs say; extents that depend on data are not among them.
  const Bindings& bindings() const { return given_; }
  void run_step(size_t step);
  // A plan value as it stands now, dense.
  Tensor value(int32_t id) const;

  // One step by itself, on other inputs than the run gave it: values[i] for step.inputs[i]; an
  // empty one (constants, absent) is taken from the plan. Then `read` gives its results.
  class Alone {
   public:
    Alone(Replay& replay, size_t step, std::span<const Tensor> values);
    Tensor read(int32_t id) const;

   private:
    Replay& replay_;
    std::vector<std::byte*> bases_;
    std::vector<Tensor> owned_;
  };

 private:
  void run_jobs(std::span<std::byte* const> bases, size_t step);
  Tensor gather(int32_t id, const std::byte* base) const;
  int64_t buffer_bytes(int32_t buffer) const;

  const Plan& plan_;
  std::vector<Tensor> inputs_;
  Bindings given_, symbols_;
  std::unique_ptr<Binding> binding_;
  Team team_;
  Arena arena_;
  std::vector<Tensor> outputs_;
  std::vector<std::byte*> bases_;
};

}  // namespace planck
