// The driver: here every pass is named, timed, verified, counted, stoppable, switchable.
#include <algorithm>
#include <chrono>
#include <optional>

#include "base/guard.h"
#include "base/knobs.h"
#include "passes/pass.h"

namespace planck {
namespace {

class Stopwatch {
 public:
  double ms() const {
    return std::chrono::duration<double, std::milli>(Clock::now() - start_).count();
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

// A pass may make work for itself, but not more than a few times the graph.
int64_t most_patches(const Graph& g) { return 1000 + 20 * g.node_count(); }

class Scanner {
 public:
  Scanner(Graph& g, const Pass& pass, const PassOptions& options, PassReport& report)
      : graph_(g),
        pass_(pass),
        report_(report),
        stop_after_(options.stop_after >= 0 ? options.stop_after : knobs().stop_after_patch),
        verify_each_(options.verify_each || knobs().verify_patches != 0),
        most_(report.patches + most_patches(g)) {}

  void run() {
    // What an earlier scan refused may fit by now, so only the last scan's refusals count.
    const size_t refusals = report_.refusals.size();
    do {
      report_.refusals.resize(refusals);
    } while (scan());
  }

 private:
  bool stopped() const { return report_.patches == stop_after_; }  // -1 never equals a count

  // One way through the graph; whether another one is due.
  bool scan() {
    bool changed = false;
    for (NodeId at = graph_.first(); at != kNoNode && !stopped();) {
      check_guard();
      const std::optional<Patch> patch = pass_.next(graph_, at, report_);
      if (!patch) break;
      if (report_.patches == most_) throw InternalError("the pass does not end");
      at = with_context([&] { return applied(*patch); }, "patch ", report_.patches);
      ++report_.patches;
      changed = true;
    }
    return changed && !stopped();
  }

  NodeId applied(const Patch& patch) {
    const NodeId at = apply(graph_, patch);
    if (verify_each_) verify(graph_);
    return at;
  }

  Graph& graph_;
  const Pass& pass_;
  PassReport& report_;
  const int64_t stop_after_;
  const bool verify_each_;
  const int64_t most_;
};

void check_disabled(const PassOptions& options) {
  const std::vector<std::string> names = pass_names();
  for (const std::string& name : options.disabled) {
    if (std::ranges::find(names, name) == names.end()) {
      throw with(UsageError("no pass is called '", name, "'; there are ", joined(names)),
                 {.expected = joined(names), .got = name});
    }
  }
}

}  // namespace

void PassReport::refuse(std::string_view pass, const Graph& g, const Node& n,
                        const std::string& reason) {
  const std::string node =
      n.origin.empty() && !n.outputs.empty() ? label(g, n.outputs[0]) : origin_text(g, n.origin);
  Refused row{std::string(pass), node, reason};
  if (std::ranges::find(refusals, row) == refusals.end()) refusals.push_back(std::move(row));
}

void run_pass(Graph& g, const Pass& pass, const PassOptions& options, PassReport& report) {
  if (options.disabled.contains(pass.name)) return;
  with_context(
      [&] {
        const Stopwatch watch;
        const int64_t first = report.patches;
        Scanner(g, pass, options, report).run();
        verify(g);
        report.rows.push_back({pass.name, report.patches - first, watch.ms()});
      },
      "pass ", pass.name);
}

void run_pipeline(Graph& g, const PassOptions& options, PassReport& report) {
  check_disabled(options);
  const std::vector<Pass> passes = pipeline();
  for (size_t i = 0; i < passes.size(); ++i) {
    if (options.progress && !options.progress(passes[i].name, i, passes.size())) {
      throw CancelledError("cancelled before pass ", passes[i].name);
    }
    run_pass(g, passes[i], options, report);
  }
}

std::vector<std::string> pass_names() {
  std::vector<std::string> names;
  for (const Pass& pass : pipeline()) {
    if (std::ranges::find(names, pass.name) == names.end()) names.push_back(pass.name);
  }
  return names;
}

namespace {

// The patch of an outcome; a refusal with a reason is recorded, one without means "not mine".
std::optional<Patch> settled(Outcome outcome, std::string_view pass, const Graph& g, const Node& n,
                             PassReport& report) {
  if (auto* patch = std::get_if<Patch>(&outcome)) return std::move(*patch);
  const std::string& reason = std::get<Refusal>(outcome).text;
  if (!reason.empty()) report.refuse(pass, g, n, reason);
  return std::nullopt;
}

}  // namespace

Pass node_pass(std::string name, Rewrite rewrite) {
  const auto next = [name, rewrite](const Graph& g, NodeId from,
                                    PassReport& report) -> std::optional<Patch> {
    for (const Node& n : g.nodes_from(from)) {
      check_guard();
      std::optional<Outcome> outcome = rewrite(g, n);
      if (!outcome) continue;
      if (auto patch = settled(std::move(*outcome), name, g, n, report)) return patch;
    }
    return std::nullopt;
  };
  return {std::move(name), next};
}

Pass fusion_pass(std::string name, Pat formula, FusionRewrite rewrite) {
  const auto next = [name, formula = std::move(formula), rewrite](
                        const Graph& g, NodeId from, PassReport& report) -> std::optional<Patch> {
    for (const Node& n : g.nodes_from(from)) {
      check_guard();
      const std::optional<Match> found = match(g, n, formula);
      if (!found) continue;
      if (auto patch = settled(rewrite(g, *found), name, g, n, report)) return patch;
    }
    return std::nullopt;
  };
  return {std::move(name), next};
}

}  // namespace planck
