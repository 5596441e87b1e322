#include "runtime/replay.h"

#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "runtime/feeds.h"

namespace planck {
namespace {

// Calls body(offset in the strided value, index in the dense one), both in elements.
void each_element(const BoundValue& v, auto&& body) {
  const int64_t count = v.count();
  std::vector<int64_t> at(v.shape.size(), 0);
  int64_t offset = v.offset;
  for (int64_t i = 0; i < count; ++i) {
    body(offset, i);
    for (size_t axis = v.shape.size(); axis-- > 0;) {
      offset += v.strides[axis];
      if (++at[axis] < v.shape[axis]) break;
      offset -= v.strides[axis] * v.shape[axis];
      at[axis] = 0;
    }
  }
}

void copy_elements(const BoundValue& v, std::byte* strided, std::byte* dense, bool to_dense) {
  const auto size = static_cast<size_t>(size_of(v.dtype));
  each_element(v, [&](int64_t offset, int64_t i) {
    std::byte* a = strided + static_cast<size_t>(offset) * size;
    std::byte* b = dense + static_cast<size_t>(i) * size;
    to_dense ? std::memcpy(b, a, size) : std::memcpy(a, b, size);
  });
}

std::vector<Feed> feeds_of(const Plan& plan, std::span<const Tensor> inputs) {
  std::vector<Feed> feeds;
  for (size_t i = 0; i < inputs.size(); ++i) {
    feeds.push_back({plan.inputs[i].name, inputs[i].dtype(), inputs[i].shape(), inputs[i].data()});
  }
  return feeds;
}

Bindings symbols_of(const Plan& plan, std::span<const Tensor> inputs) {
  const std::vector<Feed> feeds = feeds_of(plan, inputs);
  std::vector<const Feed*> matched;
  match_feeds(plan, feeds, matched);
  return bind_symbols(plan, matched);
}

// Takes outputs that nobody wants.
class Discarded : public OutputSink {
 public:
  void* output(size_t, const PlanPort& port, std::span<const int64_t> shape) override {
    std::byte* bytes = nullptr;
    tensors_.push_back(Tensor::make(port.dtype, Shape(shape.begin(), shape.end()), &bytes));
    return bytes;
  }

 private:
  std::vector<Tensor> tensors_;
};

// Where shapes depend on data, a whole run finds them out.
Bindings extents_of(const Plan& plan, std::span<const Tensor> inputs, int threads,
                    Denormals denormals, const Bindings& given) {
  if (!phases_of(plan).late()) return given;
  Limits limits = current_limits();
  limits.max_arena_bytes = INT64_MAX;  // nor does the replay hold one
  Context context(plan, threads, limits, denormals);
  Discarded outputs;
  context.run(feeds_of(plan, inputs), outputs, {});
  return context.extents();
}

}  // namespace

Replay::Replay(const Plan& plan, std::vector<Tensor> inputs, int threads, Denormals denormals)
    : plan_(plan),
      inputs_(std::move(inputs)),
      given_(symbols_of(plan, inputs_)),
      symbols_(extents_of(plan, inputs_, threads, denormals, given_)),
      binding_(make_binding(plan, symbols_, one_phase(plan))),
      team_(threads, binding_->scratch_bytes, denormals) {
  arena_.reserve(binding_->memory.bytes);
  std::vector<const void*> given;
  std::vector<void*> results;
  for (const Tensor& t : inputs_) given.push_back(t.data());
  for (const PlanPort& p : plan.outputs) {
    std::byte* bytes = nullptr;
    const BoundValue& v = binding_->values[static_cast<size_t>(p.value)];
    outputs_.push_back(Tensor::make(v.dtype, v.shape, &bytes));
    results.push_back(bytes);
  }
  find_bases(plan, one_phase(plan), 0, *binding_, arena_.data(), given, results, bases_);
}

void Replay::run_jobs(std::span<std::byte* const> bases, size_t step) {
  for (const Relocation& r : binding_->steps[step].relocations) {
    const BoundValue& v = binding_->values[static_cast<size_t>(r.value)];
    *r.slot = bases[static_cast<size_t>(v.buffer)] + v.offset * size_of(v.dtype);
  }
  std::vector<Job> jobs = binding_->steps[step].jobs;
  std::erase_if(jobs, [](const Job& job) { return job.tiles == 0; });
  team_.run(jobs);
}

void Replay::run_step(size_t step) { run_jobs(bases_, step); }

Tensor Replay::gather(int32_t id, const std::byte* base) const {
  const BoundValue& v = binding_->values[static_cast<size_t>(id)];
  std::byte* bytes = nullptr;
  Tensor out = Tensor::make(v.dtype, v.shape, &bytes);
  copy_elements(v, const_cast<std::byte*>(base), bytes, true);
  return out;
}

Tensor Replay::value(int32_t id) const {
  const int32_t buffer = plan_.values[static_cast<size_t>(id)].buffer;
  return gather(id, bases_[static_cast<size_t>(buffer)]);
}

int64_t Replay::buffer_bytes(int32_t buffer) const {
  const PlanBuffer& b = plan_.buffers[static_cast<size_t>(buffer)];
  return checked_mul(b.elements.eval(symbols_), b.element_size);
}

Replay::Alone::Alone(Replay& replay, size_t step, std::span<const Tensor> values)
    : replay_(replay), bases_(replay.bases_) {
  const Step& s = replay.plan_.steps[step];
  std::vector<std::byte*> fresh(bases_.size(), nullptr);
  const auto memory = [&](int32_t id) {
    const int32_t buffer = replay.plan_.values[static_cast<size_t>(id)].buffer;
    std::byte*& base = fresh[static_cast<size_t>(buffer)];
    if (base == nullptr) {
      owned_.push_back(Tensor::make(DType::u8, {replay.buffer_bytes(buffer)}, &base));
      bases_[static_cast<size_t>(buffer)] = base;
    }
    return base;
  };
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i].data() == nullptr) continue;
    const BoundValue& v = replay.binding_->values[static_cast<size_t>(s.inputs[i])];
    if (values[i].dtype() != v.dtype || values[i].count() != v.count()) {
      throw RunError("input ", i, " has ", values[i].count(), " elements of ", values[i].dtype(),
                     " in the reference, ", v.count(), " of ", v.dtype, " in the plan");
    }
    copy_elements(v, memory(s.inputs[i]), const_cast<std::byte*>(values[i].data()), false);
  }
  for (const int32_t v : s.outputs) {
    if (v >= 0) memory(v);
  }
  replay.run_jobs(bases_, step);
}

Tensor Replay::Alone::read(int32_t id) const {
  const int32_t buffer = replay_.plan_.values[static_cast<size_t>(id)].buffer;
  return replay_.gather(id, bases_[static_cast<size_t>(buffer)]);
}

}  // namespace planck
