#include <algorithm>
#include <iomanip>
#include <sstream>

#include "plan/plan.h"

namespace planck {
namespace {

constexpr size_t kShown = 3;  // ONNX names of one step before "+ n more"

std::string onnx_names(const Plan& plan, const Step& step) {
  std::vector<std::string> names;
  for (size_t i = 0; i < step.nodes.size() && i < kShown; ++i) {
    names.push_back(plan.nodes[static_cast<size_t>(step.nodes[i])].name);
  }
  std::string out = joined(names, " + ");
  if (step.nodes.size() > kShown) out += cat(" + ", step.nodes.size() - kShown, " more");
  return out.empty() ? "-" : out;
}

std::string type_text(const Plan& plan, int32_t id) {
  const PlanValue& v = plan.values[static_cast<size_t>(id)];
  return cat(v.dtype, '[', joined(v.shape, ","), ']');
}

void explain_step(const Plan& plan, size_t index, std::ostringstream& out) {
  const Step& s = plan.steps[index];
  out << std::setw(4) << index << "  " << s.op << " -> ";
  for (size_t i = 0; i < s.outputs.size(); ++i) {
    if (s.outputs[i] >= 0) out << (i > 0 ? ", " : "") << type_text(plan, s.outputs[i]);
  }
  out << "\n      kernel " << s.kernel << ", precision asked " << s.asked << ", given " << s.given
      << "\n      nodes  " << onnx_names(plan, s) << '\n';
  for (const Rejected& r : s.rejected)
    out << "      not    " << r.kernel << ": " << r.reason << '\n';
}

}  // namespace

std::string_view family(const StepParams& params) {
  return std::visit([](const auto& p) { return p.kFamily; }, params);
}

int64_t Plan::constant_bytes() const {
  int64_t sum = 0;
  for (const PlanConstant& c : constants) sum += c.tensor.bytes();
  return sum;
}

std::string explain(const Plan& plan) {
  std::ostringstream out;
  const BuildReport& r = plan.report;
  out << "plan of " << r.model << ": " << r.onnx_nodes << " ONNX nodes, " << plan.steps.size()
      << " steps, precision " << plan.precision << ", built for " << plan.isa << ", "
      << plan.constant_bytes() / 1000000 << " MB of constants\n";
  for (const auto& [op, count] : r.fused) out << "  " << op << " x " << count << '\n';
  out << "\nsteps\n";
  for (size_t i = 0; i < plan.steps.size(); ++i) explain_step(plan, i, out);
  if (!plan.unused.empty()) {
    out << "\nnodes that no output needs: " << plan.unused.size() << '\n';
    for (const int32_t n : plan.unused) {
      out << "  " << plan.nodes[static_cast<size_t>(n)].name << '\n';
    }
  }
  out << "\nrefusals\n";
  for (const RefusalRow& row : r.refusals) {
    out << "  " << row.pass << " at " << row.where << ": " << row.reason << '\n';
  }
  if (r.refusals.empty()) out << "  none\n";
  return out.str();
}

}  // namespace planck
