#pragma once
#include <memory>

#include "base/float_state.h"
#include "output_memory.h"
#include "plan/plan.h"
#include "runtime/session.h"

namespace planck {

// A plan with the session that runs it.
class PyPlan {
 public:
  PyPlan(std::shared_ptr<const Plan> plan, const SessionOptions& options)
      : output_memory_(std::make_shared<OutputMemory>(plan->outputs.size())),
        session_(std::make_unique<Session>(std::move(plan), options)) {}
  Session& session() { return *session_; }
  const Session& session() const { return *session_; }
  const Plan& plan() const { return session_->plan(); }
  OutputMemory& output_memory() const { return *output_memory_; }

 private:
  std::shared_ptr<OutputMemory> output_memory_;
  std::unique_ptr<Session> session_;
};

inline Denormals denormals_of(bool flush) { return flush ? Denormals::flush : Denormals::compute; }

std::shared_ptr<PyPlan> make_py_plan(Plan plan, const SessionOptions& options);

}  // namespace planck
