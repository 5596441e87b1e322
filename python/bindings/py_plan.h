#pragma once
#include <memory>

#include "plan/plan.h"
#include "runtime/session.h"

namespace planck {

// A plan with the session that runs it.
class PyPlan {
 public:
  PyPlan(std::shared_ptr<const Plan> plan, const SessionOptions& options)
      : session_(std::make_unique<Session>(std::move(plan), options)) {}
  Session& session() { return *session_; }
  const Session& session() const { return *session_; }
  const Plan& plan() const { return session_->plan(); }

 private:
  std::unique_ptr<Session> session_;
};

std::shared_ptr<PyPlan> make_py_plan(Plan plan, const SessionOptions& options);

}  // namespace planck
