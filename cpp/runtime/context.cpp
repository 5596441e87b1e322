#include "runtime/context.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "base/checked.h"
#include "base/device.h"
#include "runtime/feeds.h"

namespace planck {
namespace {

constexpr size_t kMostBindings = 64;  // of one context; the one used longest ago goes first
constexpr int64_t kHugePage = 2 << 20;

// Runs body; an error is about the ONNX nodes that the step covers.
auto at_step(const Plan& plan, const Step& step, auto&& body) {
  try {
    return body();
  } catch (Error& e) {
    const std::string names = step_names(plan, step);
    e.locate(names, step.op, "");
    e.add_context(cat(names, " (", step.op, ')'));
    throw;
  }
}

}  // namespace

Arena::~Arena() {
  if (data_ != nullptr) munmap(data_, static_cast<size_t>(bytes_));
}

int64_t Arena::mapped(int64_t bytes) { return round_up(bytes, kHugePage); }

bool Arena::reserve(int64_t bytes) {
  if (bytes <= bytes_) return false;
  const int64_t rounded = mapped(bytes);
  void* fresh = mmap(nullptr, static_cast<size_t>(rounded), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (fresh == MAP_FAILED) {
    throw with(OutOfMemoryError("no memory for an arena of ", bytes, " bytes"), {.need = bytes});
  }
  madvise(fresh, static_cast<size_t>(rounded), MADV_HUGEPAGE);
  if (data_ != nullptr) munmap(data_, static_cast<size_t>(bytes_));
  data_ = static_cast<std::byte*>(fresh);
  bytes_ = rounded;
  return true;
}

size_t Context::KeyHash::operator()(const Key& key) const {
  uint64_t hash = 14695981039346656037ull;
  for (const int64_t v : key) hash = (hash ^ static_cast<uint64_t>(v)) * 1099511628211ull;
  return hash;
}

std::unique_ptr<Binding> make_binding(const Plan& plan, const Bindings& bindings,
                                      const Phases& phases, size_t phase) {
  auto out = std::make_unique<Binding>();
  out->phase = phases.list[phase];
  out->values = bind_values(plan, bindings, phases, phase);
  out->memory = plan_memory(plan, bindings, phases, phase);
  const BindContext context{plan, out->values, bindings};
  for (size_t s = out->phase.first; s < out->phase.end; ++s) {
    const Step& step = plan.steps[s];
    check_guard();
    BoundStep bound = at_step(plan, step, [&] { return bind_cpu(context, step); });
    for (const Job& job : bound.jobs) {
      if (job.tiles == 0) continue;
      out->jobs.push_back(job);
      out->step_of.push_back(s);
    }
    for (const Relocation& r : bound.relocations) {
      const BoundValue& v = context.at(r.value);
      out->patches.push_back({r.slot, v.buffer, v.offset * size_of(v.dtype)});
    }
    out->scratch_bytes = std::max(out->scratch_bytes, bound.scratch_bytes);
    out->steps.push_back(std::move(bound));
  }
  return out;
}

void find_bases(const Plan& plan, const Phases& phases, size_t phase, const Binding& binding,
                std::byte* arena, std::span<const void* const> inputs,
                std::span<void* const> outputs, std::vector<std::byte*>& bases) {
  const auto base = [&](size_t i) -> const void* {
    const PlanBuffer& b = plan.buffers[i];
    const auto index = static_cast<size_t>(b.index);
    switch (b.kind) {
      case BufferKind::arena:
        return arena + binding.memory.offsets[i];
      case BufferKind::input:
        return inputs[index];
      case BufferKind::output:
        return outputs[index];
      case BufferKind::constant:
        return plan.constants[index].tensor.data();
    }
    return nullptr;
  };
  bases.resize(plan.buffers.size());
  for (size_t i = 0; i < bases.size(); ++i) {
    if (phases.birth[i] != phase) continue;
    bases[i] = static_cast<std::byte*>(const_cast<void*>(base(i)));
  }
}

Context::Context(const Plan& plan, int threads, const Limits& limits, Denormals denormals)
    : plan_(plan),
      limits_(limits),
      by_reference_(std::ranges::any_of(
          plan.steps,
          [](const Step& s) { return std::holds_alternative<ReferenceParams>(s.params); })),
      team_(threads, 0, denormals),
      phases_(phases_of(plan)),
      arenas_(phases_.list.size()) {}

// Outputs count, whoever gives their memory, and so does what kernels take aside.
void Context::check_memory(const Binding& binding) const {
  int64_t need =
      checked_add(binding.memory.bytes, checked_mul(binding.scratch_bytes, int64_t{team_.size()}));
  for (const PlanPort& p : plan_.outputs) {
    const BoundValue& v = binding.values[static_cast<size_t>(p.value)];
    if (v.buffer < 0) continue;  // of another phase
    need = checked_add(need, v.count() * size_of(v.dtype));
  }
  within("max_arena_bytes", limits_.max_arena_bytes, need, "bytes of tensors for these shapes");
}

// key_ holds the extents that decide.
Binding& Context::binding_for(size_t phase) {
  if (const auto it = bindings_.find(key_); it != bindings_.end()) {
    recent_.splice(recent_.begin(), recent_, it->second.used);
    return *it->second.binding;
  }
  if (!phases_.late()) extents_ = bind_symbols(plan_, matched_);
  auto binding = make_binding(plan_, extents_, phases_, phase);
  check_memory(*binding);
  ++stats.bindings;
  log(LogLevel::info, "new shapes [", joined(key_), "]: ", binding->memory.bytes,
      " bytes of arena, ", binding->jobs.size(), " jobs");
  if (bindings_.size() >= kMostBindings) {
    bindings_.erase(recent_.back());
    recent_.pop_back();
  }
  recent_.push_front(key_);
  return *bindings_.emplace(key_, Entry{std::move(binding), recent_.begin()}).first->second.binding;
}

// A feed in the other integer width, copied into memory of our own.
const void* Context::converted(const Feed& feed, DType want, size_t index) {
  if (feed.dtype == want) return feed.data;
  ++stats.copies;
  staging_.resize(plan_.inputs.size());
  std::vector<std::byte>& staged = staging_[index];
  const int64_t count = checked_count(feed.shape);
  const auto bytes = static_cast<size_t>(count * size_of(want));
  if (staged.capacity() < bytes) ++stats.allocations;
  staged.resize(bytes);
  if (want == DType::s64) {
    const auto* from = static_cast<const int32_t*>(feed.data);
    std::copy(from, from + count, reinterpret_cast<int64_t*>(staged.data()));
    return staged.data();
  }
  const auto* from = static_cast<const int64_t*>(feed.data);
  auto* to = reinterpret_cast<int32_t*>(staged.data());
  for (int64_t i = 0; i < count; ++i) {
    if (from[i] != static_cast<int32_t>(from[i])) {
      throw FeedError("input '", feed.name, "': element ", i, " is ", from[i],
                      ", which does not fit int32; expected int32, got int64");
    }
    to[i] = static_cast<int32_t>(from[i]);
  }
  return staged.data();
}

void Context::set_addresses(size_t phase, Binding& binding, OutputSink& sink) {
  Arena& arena = arenas_[phase];
  const int64_t before = arena.bytes();
  if (arena.reserve(binding.memory.bytes)) {
    ++stats.allocations;
    stats.arena_bytes += arena.bytes() - before;
  }
  if (binding.scratch_bytes > scratch_bytes_) {
    scratch_bytes_ = binding.scratch_bytes;
    team_.reserve_scratch(scratch_bytes_);
    ++stats.allocations;
  }
  output_data_.resize(plan_.outputs.size());
  for (size_t i = 0; i < plan_.outputs.size(); ++i) {
    const BoundValue& v = binding.values[static_cast<size_t>(plan_.outputs[i].value)];
    if (v.buffer < 0 || phases_.birth[static_cast<size_t>(v.buffer)] != phase) continue;
    output_data_[i] = sink.output(i, plan_.outputs[i], v.shape);
  }
  find_bases(plan_, phases_, phase, binding, arena.data(), input_data_, output_data_, bases_);
  for (const Binding::Patch& p : binding.patches) {
    *p.slot = bases_[static_cast<size_t>(p.buffer)] + p.bytes;
  }
}

void Context::run_jobs(const Binding& binding, const Guard* guard, Trace* trace) {
  if (trace == nullptr) return team_.run(binding.jobs, {}, guard);
  std::vector<int64_t> ends(binding.jobs.size());
  team_.run(binding.jobs, ends, guard);
  for (size_t i = 0; i < binding.steps.size(); ++i) {
    (*trace)[binding.phase.first + i].flops = binding.steps[i].flops;
  }
  int64_t before = 0;
  for (size_t i = 0; i < ends.size(); ++i) {
    (*trace)[binding.step_of[i]].seconds += 1e-9 * static_cast<double>(ends[i] - before);
    before = ends[i];
  }
}

// What a phase found out: the numbers of symbols, and memory that it made.
void Context::learn_extents(const Binding& binding) {
  const size_t last = binding.phase.end - 1;
  for (const BoundStep::Late& late : binding.steps.back().late) {
    const PlanValue& v = plan_.values[static_cast<size_t>(late.value)];
    Tensor made = std::exchange(*late.made, {});
    for (size_t axis = 0; axis < v.shape.size(); ++axis) {
      const int64_t extent = made.shape()[axis];
      if (const std::string_view symbol = v.shape[axis].as_symbol(); !symbol.empty()) {
        if (extents_.emplace(symbol, extent).second) key_.push_back(extent);
      }
    }
    for (size_t axis = 0; axis < v.shape.size(); ++axis) {
      const int64_t want = v.shape[axis].eval(extents_), got = made.shape()[axis];
      if (want == got) continue;
      at_step(plan_, plan_.steps[last], [&] {
        throw with(
            RunError("axis ", axis, " of '", v.name, "' is ", got, ", the graph says ", want),
            {.expected = cat(want), .got = cat(got)});
      });
    }
    bases_[static_cast<size_t>(v.buffer)] = const_cast<std::byte*>(made.data());
    late_.push_back(std::move(made));
  }
}

void Context::run_phase(size_t phase, OutputSink& sink, const Guard* guard, Trace* trace) {
  if (phase > 0) key_.push_back(-1);  // no extent: what follows belongs to a later phase
  Binding& binding = binding_for(phase);
  set_addresses(phase, binding, sink);
  try {
    run_jobs(binding, guard, trace);
  } catch (...) {
    const size_t job = team_.failed_step();
    if (job >= binding.step_of.size()) throw;
    at_step(plan_, plan_.steps[binding.step_of[job]], [] { throw; });
  }
  if (phase + 1 < phases_.list.size()) learn_extents(binding);
}

void Context::run(std::span<const Feed> feeds, OutputSink& sink, const RunOptions& options) {
  GuardOptions guard_options;
  guard_options.limits = &limits_;
  guard_options.seconds = options.timeout > 0 ? options.timeout : limits_.run_timeout;
  guard_options.cancel = options.cancel;
  const Guard guard(std::move(guard_options));
  const GuardScope scope(&guard);
  guard.check();
  match_feeds(plan_, feeds, matched_);
  late_.clear();  // of a run that failed
  key_.clear();
  for (const Feed* f : matched_) key_.insert(key_.end(), f->shape.begin(), f->shape.end());
  if (phases_.late()) extents_ = bind_symbols(plan_, matched_);
  input_data_.clear();
  for (size_t i = 0; i < matched_.size(); ++i) {
    input_data_.push_back(converted(*matched_[i], plan_.inputs[i].dtype, i));
  }
  if (options.trace != nullptr) options.trace->assign(plan_.steps.size(), {});
  const Guard* asked = guard.asked() || by_reference_ ? &guard : nullptr;
  for (size_t p = 0; p < phases_.list.size(); ++p) run_phase(p, sink, asked, options.trace);
  late_.clear();
  ++stats.runs;
}

}  // namespace planck
