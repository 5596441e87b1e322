#include "builder/build.h"

#include <algorithm>
#include <chrono>
#include <fstream>

#include "base/device.h"
#include "builder/lowering.h"
#include "builder/source.h"
#include "ops/ops.h"
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

// Peak resident memory of the process, as the kernel counts it.
int64_t peak_rss_bytes() {
  std::ifstream status("/proc/self/status");
  std::string word;
  int64_t kib = 0;
  while (status >> word) {
    if (word == "VmHWM:") status >> kib;
  }
  return kib * 1024;
}

void check_options(const BuildOptions& options) {
  if (options.device != "cpu") {
    throw with(DeviceError("device '", options.device, "' is not available; this build has 'cpu'"),
               {.expected = "cpu", .got = options.device});
  }
  if (options.fallback != "reference" && options.fallback != "error") {
    throw with(UsageError("fallback is '", options.fallback, "'; expected 'reference' or 'error'"),
               {.expected = "reference, error", .got = options.fallback});
  }
  constexpr std::string_view kKnown[] = {"graph", "fp32", "fp32-fast", "tf32", "bf16",
                                         "fp16",  "int8", "fp8",       "auto"};
  if (std::ranges::find(kKnown, options.precision) == std::end(kKnown)) {
    throw with(
        UsageError("precision is '", options.precision, "'; expected one of ", joined(kKnown)),
        {.expected = joined(kKnown), .got = options.precision});
  }
  if (options.precision != "graph" && options.precision != "fp32") {
    throw with(PrecisionError("precision '", options.precision,
                              "' has no kernels yet; this build gives 'fp32' and 'graph'"),
               {.expected = "graph, fp32",
                .got = options.precision,
                .hint = "precision=\"graph\" takes the types of the model"});
  }
}

void step_progress(const BuildOptions& options, std::string_view stage, double done) {
  if (options.progress && !options.progress(stage, done)) {
    throw CancelledError("the build was cancelled during ", stage);
  }
}

// Reports how many of each op the model became, our ops and those that fusions make.
void count_ops(const Graph& g, BuildReport& report) {
  for (const Node& n : g.nodes()) ++report.fused[n.op->text()];
}

void run_passes(Graph& g, const BuildOptions& options, BuildReport& report) {
  const Stopwatch watch;
  PassOptions pass_options;
  pass_options.disabled.insert(options.disabled_passes.begin(), options.disabled_passes.end());
  pass_options.stop_after = options.stop_after_patch;
  pass_options.progress = [&](std::string_view pass, size_t done, size_t total) {
    step_progress(options, pass,
                  0.2 + 0.3 * static_cast<double>(done) / static_cast<double>(total));
    return true;
  };
  PassReport passes;
  run_pipeline(g, pass_options, passes);
  for (const PassReport::Row& r : passes.rows) report.passes.push_back({r.pass, r.patches, r.ms});
  for (const PassReport::Refused& r : passes.refusals) {
    report.refusals.push_back({r.pass, r.node, r.reason});
  }
  report.passes_ms = watch.ms();
}

Plan from_graph(Graph graph, const BuildOptions& options, BuildReport report) {
  report.onnx_nodes = static_cast<int64_t>(graph.sources->size());
  const Graph model = graph.clone();
  run_passes(graph, options, report);
  count_ops(graph, report);
  step_progress(options, "packing weights", 0.5);
  const Stopwatch watch;
  Plan plan;
  plan.precision = options.precision;
  plan.isa = isa_name(this_device().best);
  LowerOptions lower_options;
  lower_options.allow_reference = options.fallback == "reference";
  lower(graph, lower_options, plan);
  attach_source(model, plan);
  report.lower_ms = watch.ms();
  report.peak_rss_bytes = peak_rss_bytes();
  plan.report = std::move(report);
  step_progress(options, "done", 1);
  return plan;
}

}  // namespace

Plan build_graph(Graph graph, const BuildOptions& options) {
  check_options(options);
  return from_graph(std::move(graph), options, {});
}

Plan build_file(const std::string& path, const BuildOptions& options) {
  check_options(options);
  step_progress(options, "importing", 0);
  const Stopwatch watch;
  return with_context(
      [&] {
        Graph graph = import_file(path, builtin_ops(), options.import);
        BuildReport report;
        report.model = path;
        report.import_ms = watch.ms();
        return from_graph(std::move(graph), options, std::move(report));
      },
      "build of ", path);
}

Plan build_bytes(std::span<const std::byte> model, const BuildOptions& options) {
  check_options(options);
  step_progress(options, "importing", 0);
  const Stopwatch watch;
  Graph graph = import_bytes(model, builtin_ops(), options.import);
  BuildReport report;
  report.model = "bytes";
  report.import_ms = watch.ms();
  return from_graph(std::move(graph), options, std::move(report));
}

std::string graph_text(const std::string& path, const BuildOptions& options) {
  Graph graph = import_file(path, builtin_ops(), options.import);
  BuildReport report;
  run_passes(graph, options, report);
  return print(graph);
}

}  // namespace planck
