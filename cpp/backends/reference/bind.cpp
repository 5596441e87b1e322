// Any op by its reference: one tile that widens the inputs, evaluates, and stores the outputs.
// Slow and allocating, and never chosen in silence: explain() shows it with its reason.
#include "backends/bind.h"

#include <cstring>
#include <nlohmann/json.hpp>

#include "ops/evaluate.h"
#include "ops/ops.h"

namespace planck {
namespace {

struct ReferenceArgs {
  const OpDef* op = nullptr;
  Attrs attrs;
  Bindings bindings;
  std::string where;
  struct Port {
    bool present = false;
    DType dtype = DType::f32;
    Shape shape;
    const void* data = nullptr;
  };
  std::vector<Port> in, out;
};

void store(const Wide& result, const ReferenceArgs::Port& port, const std::string& where) {
  if (result.shape != port.shape) {
    throw with(RunError(where, " gives ", shape_text(result.shape), ", the graph says ",
                        shape_text(port.shape)),
               {.expected = shape_text(port.shape), .got = shape_text(result.shape)});
  }
  const Tensor narrow_result = narrow(result, port.dtype);
  std::memcpy(const_cast<void*>(port.data), narrow_result.data(),
              static_cast<size_t>(narrow_result.bytes()));
}

void run_reference(const void* context, int64_t, const Worker&) {
  const auto& args = *static_cast<const ReferenceArgs*>(context);
  std::vector<Wide> wide(args.in.size());
  std::vector<const Wide*> in(args.in.size(), nullptr);
  for (size_t i = 0; i < args.in.size(); ++i) {
    const ReferenceArgs::Port& p = args.in[i];
    if (!p.present) continue;
    wide[i] = widen(Tensor(p.dtype, p.shape, static_cast<const std::byte*>(p.data), nullptr));
    in[i] = &wide[i];
  }
  std::vector<Wide> out(args.out.size());
  for (size_t i = 0; i < out.size(); ++i) out[i].dtype = args.out[i].dtype;
  Evaluation call{in, out, &args.bindings};
  evaluate(*args.op, args.attrs.get(), call);
  for (size_t i = 0; i < out.size(); ++i) {
    if (args.out[i].present) store(out[i], args.out[i], args.where);
  }
}

ReferenceArgs::Port port(const BindContext& c, int32_t id) {
  if (id < 0) return {};
  return {true, c.at(id).dtype, c.at(id).shape, nullptr};
}

}  // namespace

BoundStep bind_reference(const BindContext& c, const Step& step) {
  const auto& params = std::get<ReferenceParams>(step.params);
  BoundStep bound;
  ReferenceArgs& args = bound.make<ReferenceArgs>();
  args.op = &builtin_ops().at(params.op);
  args.attrs = args.op->parse(Json::parse(params.attrs));
  args.bindings = c.bindings;
  args.where = c.nodes_text(step);
  for (const int32_t v : step.inputs) args.in.push_back(port(c, v));
  for (const int32_t v : step.outputs) args.out.push_back(port(c, v));
  for (size_t i = 0; i < step.inputs.size(); ++i) {
    bound.relocate(args.in[i].data, step.inputs[i]);
  }
  for (size_t i = 0; i < step.outputs.size(); ++i) {
    bound.relocate(args.out[i].data, step.outputs[i]);
  }
  bound.jobs.push_back({run_reference, &args, 1});
  return bound;
}

}  // namespace planck
