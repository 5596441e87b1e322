#include "builder/build.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <map>

#include "base/device.h"
#include "base/float_state.h"
#include "builder/gather.h"
#include "builder/lowering.h"
#include "builder/observe.h"
#include "builder/source.h"
#include "ops/ops.h"
#include "passes/pass.h"
#include "passes/passes.h"

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
  constexpr std::string_view kGiven[] = {"graph", "fp32", "fp32-fast", "int8"};
  if (std::ranges::find(kGiven, options.precision) == std::end(kGiven)) {
    throw with(PrecisionError("precision '", options.precision,
                              "' has no kernels yet; this build gives ", joined(kGiven)),
               {.expected = joined(kGiven),
                .got = options.precision,
                .hint = "precision=\"graph\" takes the types of the model"});
  }
  if (!options.scales.empty() && options.precision != "int8") {
    throw with(UsageError("scales are given, and precision is '", options.precision,
                          "'; only 'int8' reads them"),
               {.expected = "int8", .got = options.precision});
  }
}

// Where a build stands, and whether it may go on.
class Stage {
 public:
  explicit Stage(const BuildOptions& options)
      : options_(options), guard_(guard_options()), scope_(&guard_) {}

  void enter(std::string_view name, double done) {
    name_ = name;
    done_ = done;
    if (!go_on()) throw CancelledError("the build was cancelled", place());
    guard_.check();
  }

 private:
  bool go_on() const { return !options_.progress || options_.progress(name_, done_); }
  std::string place() const { return " during " + name_; }

  GuardOptions guard_options() {
    GuardOptions guard;
    guard.limits = &options_.limits;
    guard.seconds = options_.limits.build_timeout;
    guard.option = "build_timeout";
    guard.cancel = options_.cancel;
    if (options_.progress) guard.poll = [this] { return go_on(); };
    guard.place = [this] { return place(); };
    return guard;
  }

  const BuildOptions& options_;
  std::string name_ = "importing";
  double done_ = 0;
  const Guard guard_;
  const GuardScope scope_;
  const FloatState state_;  // a constant that is folded has the same bits in every host program
};

ImportOptions import_options(const BuildOptions& options) {
  for (const auto& [name, extent] : options.dims) {
    if (extent < 0) {
      throw with(UsageError("dims.", name, " is ", extent, "; expected at least 0"),
                 {.expected = "at least 0", .got = cat(extent)});
    }
  }
  return {options.limits, options.external_data_dir, options.dims, options.initializers,
          options.fed_initializers};
}

// Reports how many of each op the model became, our ops and those that fusions make.
void count_ops(const Graph& g, BuildReport& report) {
  for (const Node& n : g.nodes()) ++report.fused[n.op->text()];
}

void run_passes(Graph& g, const BuildOptions& options, Stage& stage, BuildReport& report) {
  const Stopwatch watch;
  PassOptions pass_options;
  pass_options.disabled.insert(options.disabled_passes.begin(), options.disabled_passes.end());
  pass_options.stop_after = options.stop_after_patch;
  pass_options.progress = [&](std::string_view pass, size_t done, size_t total) {
    stage.enter(pass, 0.2 + 0.3 * static_cast<double>(done) / static_cast<double>(total));
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

// Ops that the recipe keeps in float are refusals of a pass "place".
void report_kept(const Graph& g, const Placement& placement, BuildReport& report) {
  for (const KeptFloat& k : placement.kept) {
    report.refusals.push_back({"place", origin_text(g, g.node(k.node).origin), k.reason});
  }
  log(LogLevel::info, "int8 by the recipe ", placement.recipe, ": ", placement.quantised.size(),
      " products and convolutions, ", placement.kept.size(), " stay float");
}

// Halves are placed as the floats in which they are computed.
void widen_halves(Graph& g, const BuildOptions& options) {
  if (std::ranges::count(options.disabled_passes, "widen_half") > 0) return;
  PassReport report;
  run_pass(g, pass_widen_half(), {}, report);
}

// A Cast between floats changes no grid: a scale of what it reads is one of what it gives, and the
// other way round.
Grids across_casts(const Graph& g, const Grids& given) {
  Grids grids = given;
  for (const Node& n : g.nodes()) {
    if (!n.is("Cast") || n.outputs[0] == kAbsent) continue;
    const Value &x = g.value(n.inputs[0]), &y = g.value(n.outputs[0]);
    const auto keeps = [](DType t) { return is_float(t) && !is_float8(t); };
    if (!keeps(x.type().dtype) || !keeps(y.type().dtype)) continue;
    if (x.is_constant() || x.name.empty() || y.name.empty()) continue;
    if (const auto from = given.find(x.name); from != given.end()) {
      grids.emplace(y.name, from->second);
    } else if (const auto to = given.find(y.name); to != given.end()) {
      grids.emplace(x.name, to->second);
    }
  }
  return grids;
}

// Precision "int8": a graph that is quantised already stays as it is, scales decide about others.
void quantise(Graph& g, const BuildOptions& options, BuildReport& report) {
  if (options.precision != "int8") return;
  if (options.scales.empty()) {
    if (first_quantised_node(g) != nullptr) return;
    throw with(PrecisionError("precision 'int8' needs scales, as the model is not quantised"),
               {.expected = "scales or a model with QuantizeLinear and DequantizeLinear",
                .got = "neither",
                .hint = "give scales= (planck.calibrate, planck.import_scales) or calibration="});
  }
  if (options.placement.recipe == "dynamic") {
    throw with(UsageError("the recipe 'dynamic' takes no scales"),
               {.expected = "no scales", .got = cat(options.scales.size(), " scales")});
  }
  const Grids grids = across_casts(g, options.scales);
  widen_halves(g, options);
  const Placement placement = place(g, grids, options.placement);
  report_kept(g, placement, report);
  apply(g, placement);
}

// Where the graph's own types are asked for, some ask for half precision; wider arithmetic is
// given.
void note_halves(const Graph& model, Plan& plan) {
  std::map<int32_t, std::string> asked;
  for (const Node& n : model.nodes()) {
    for (const ValueId v : n.outputs) {
      const DType dtype = v == kAbsent ? DType::f32 : model.value(v).type().dtype;
      if (!is_half(dtype)) continue;
      for (const int32_t source : n.origin) asked[source] = dtype == DType::f16 ? "fp16" : "bf16";
    }
  }
  for (Step& step : plan.steps) {
    for (const int32_t node : step.nodes) {
      if (const auto it = asked.find(node); it != asked.end()) step.asked = it->second;
    }
  }
}

Plan from_graph(Graph graph, const BuildOptions& options, Stage& stage, BuildReport report) {
  report.onnx_nodes = static_cast<int64_t>(graph.sources->size());
  add_extra_outputs(graph, options.extra_outputs);
  const Graph model = graph.clone();
  quantise(graph, options, report);
  run_passes(graph, options, stage, report);
  count_ops(graph, report);
  stage.enter("packing weights", 0.5);
  const Stopwatch watch;
  Plan plan;
  plan.precision = options.precision;
  plan.isa = isa_name(this_device().best);
  LowerOptions lower_options;
  lower_options.fast = options.precision == "fp32-fast";
  lower_options.allow_reference = options.fallback == "reference";
  lower(graph, lower_options, plan);
  if (options.precision == "graph") note_halves(model, plan);
  gather_constants(plan);
  stage.enter("attaching the source graph", 0.9);
  if (options.inspectable) attach_source(model, plan);
  std::ranges::move(plan.report.refusals, std::back_inserter(report.refusals));
  report.lower_ms = watch.ms();
  report.peak_rss_bytes = peak_rss_bytes();
  plan.report = std::move(report);
  stage.enter("done", 1);
  log(LogLevel::info, "built ", plan.report.model, ": ", plan.report.onnx_nodes,
      " ONNX nodes became ", plan.steps.size(), " steps in ",
      static_cast<int64_t>(plan.report.import_ms + plan.report.passes_ms + plan.report.lower_ms),
      " ms; fusions refused ", plan.report.refusals.size(), " times");
  return plan;
}

}  // namespace

Plan build_graph(Graph graph, const BuildOptions& options) {
  return typed([&] {
    check_options(options);
    Stage stage(options);
    return from_graph(std::move(graph), options, stage, {});
  });
}

Plan build_file(const std::string& path, const BuildOptions& options) {
  check_options(options);
  const auto body = [&] {
    const Stopwatch watch;
    Stage stage(options);
    log(LogLevel::info, "building ", path);
    stage.enter("importing", 0);
    Graph graph = import_file(path, builtin_ops(), import_options(options));
    BuildReport report;
    report.model = path;
    report.import_ms = watch.ms();
    return from_graph(std::move(graph), options, stage, std::move(report));
  };
  return with_context([&] { return typed(body); }, "build of ", path);
}

Plan build_bytes(std::span<const std::byte> model, const BuildOptions& options) {
  return typed([&] {
    check_options(options);
    const Stopwatch watch;
    Stage stage(options);
    log(LogLevel::info, "building a model of ", model.size(), " bytes");
    stage.enter("importing", 0);
    Graph graph = import_bytes(model, builtin_ops(), import_options(options));
    BuildReport report;
    report.model = "bytes";
    report.import_ms = watch.ms();
    return from_graph(std::move(graph), options, stage, std::move(report));
  });
}

namespace {

PlacedModel placed(Graph graph, const BuildOptions& options) {
  PlacedModel out{std::move(graph), {}, {}};
  for (size_t i = 0; i < out.graph.value_count(); ++i) {
    const Value& v = out.graph.value(static_cast<ValueId>(i));
    if (!v.name.empty() && is_half(v.type().dtype)) out.halves.emplace(v.name, v.type().dtype);
  }
  const Grids grids = across_casts(out.graph, options.scales);
  widen_halves(out.graph, options);
  out.placement = place(out.graph, grids, options.placement);
  return out;
}

}  // namespace

PlacedModel place_file(const std::string& path, const BuildOptions& options) {
  const auto body = [&] {
    const Stage stage(options);
    return placed(import_file(path, builtin_ops(), import_options(options)), options);
  };
  return with_context([&] { return typed(body); }, "placement in ", path);
}

PlacedModel place_bytes(std::span<const std::byte> model, const BuildOptions& options) {
  return typed([&] {
    const Stage stage(options);
    return placed(import_bytes(model, builtin_ops(), import_options(options)), options);
  });
}

std::map<std::string, int64_t> tensor_ranks(std::span<const std::byte> model,
                                            const BuildOptions& options) {
  return typed([&] {
    const Stage stage(options);
    const Graph g = import_bytes(model, builtin_ops(), import_options(options));
    std::map<std::string, int64_t> ranks;
    for (size_t i = 0; i < g.value_count(); ++i) {
      const Value& v = g.value(static_cast<ValueId>(i));
      if (!v.name.empty()) ranks.emplace(v.name, v.type().rank());
    }
    return ranks;
  });
}

std::string graph_text(const std::string& path, const BuildOptions& options) {
  return typed([&] {
    check_options(options);
    Stage stage(options);
    Graph graph = import_file(path, builtin_ops(), import_options(options));
    BuildReport report;
    quantise(graph, options, report);
    run_passes(graph, options, stage, report);
    return print(graph);
  });
}

}  // namespace planck
