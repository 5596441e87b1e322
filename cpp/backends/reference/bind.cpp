// Any op by its reference: one tile that widens the inputs, evaluates, and stores the outputs.
// Slow and allocating, and never chosen in silence: explain() shows it with its reason.
#include "backends/bind.h"

#include <cstring>
#include <nlohmann/json.hpp>

#include "base/checked.h"
#include "base/guard.h"
#include "ir/graph.h"
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
    Tensor* made = nullptr;  // where an output of a shape that only the run knows goes
  };
  std::vector<Port> in, out;
};

void keep(const Wide& result, const ReferenceArgs::Port& port, const std::string& where) {
  if (result.shape.size() != port.shape.size()) {
    throw with(
        RunError(where, " gives ", shape_text(result.shape), ", the graph says ", port.shape.size(),
                 " dimensions"),
        {.expected = cat(port.shape.size(), " dimensions"), .got = shape_text(result.shape)});
  }
  within("max_tensor_bytes", current_limits().max_tensor_bytes,
         saturated_bytes(result.shape, size_of(port.dtype)), "bytes of a tensor");
  *port.made = narrow(result, port.dtype);
}

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
    const ReferenceArgs::Port& port = args.out[i];
    if (!port.present) continue;
    if (port.made != nullptr) {
      keep(out[i], port, args.where);
    } else {
      store(out[i], port, args.where);
    }
  }
}

ReferenceArgs::Port port(const BindContext& c, int32_t id) {
  if (id < 0) return {};
  return {true, c.at(id).dtype, c.at(id).shape, nullptr, nullptr};
}

// A plan may hold any text: a broken or deep one must not reach the parser's own exceptions or its
// recursion.
Json attributes(const std::string& text) {
  constexpr int kMostDepth = 8;
  const auto shallow = [](int depth, Json::parse_event_t, const Json&) {
    if (depth > kMostDepth) throw CorruptError("the attributes of a step are nested too deep");
    return true;
  };
  Json json = Json::parse(text, shallow, false);
  if (!json.is_object()) throw CorruptError("the attributes of a step are no JSON object");
  return json;
}

Attrs parsed(const OpDef& op, const std::string& text) {
  try {
    return op.parse(attributes(text));
  } catch (const GraphError& e) {
    throw CorruptError(e.what());
  }
}

// The input as inference sees it in this run; weights with their contents.
Fact fact_at(const BindContext& c, int32_t id) {
  const BoundValue& v = c.at(id);
  Fact fact;
  fact.type = {v.dtype, {v.shape.begin(), v.shape.end()}};
  const PlanBuffer& buffer = c.plan.buffers[static_cast<size_t>(v.buffer)];
  if (buffer.kind != BufferKind::constant || v.offset != 0) return fact;
  const PlanConstant& weight = c.plan.constants[static_cast<size_t>(buffer.index)];
  const Tensor& t = weight.tensor;
  if (weight.packing.kernel.empty() && t.dtype() == v.dtype && t.count() == v.count()) {
    fact.constant = std::make_shared<const Tensor>(t.reshaped(v.shape));
  }
  return fact;
}

// A loaded plan never went through inference.
void check_step(const BindContext& c, const Step& step, const ReferenceArgs& args) {
  std::vector<Fact> facts(step.inputs.size());
  std::vector<const Fact*> in(step.inputs.size(), nullptr);
  for (size_t i = 0; i < in.size(); ++i) {
    if (step.inputs[i] < 0) continue;
    facts[i] = fact_at(c, step.inputs[i]);
    in[i] = &facts[i];
  }
  std::vector<std::optional<DType>> out(step.outputs.size());
  for (size_t i = 0; i < out.size(); ++i) {
    if (step.outputs[i] >= 0) out[i] = c.at(step.outputs[i]).dtype;
  }
  try {
    check_types(*args.op, args.attrs.get(), in, out);
  } catch (const UnsupportedError&) {  // it would need contents that a run has and a plan has not
  }
}

}  // namespace

void check_reference(const Step& step) {
  const auto& params = std::get<ReferenceParams>(step.params);
  const OpDef& op = builtin_ops().at(params.op);
  parsed(op, params.attrs);
  try {
    check_arity(op, step.inputs.size(), step.outputs.size());
  } catch (const GraphError& e) {
    throw CorruptError(e.what());
  }
}

BoundStep bind_reference(const BindContext& c, const Step& step) {
  const auto& params = std::get<ReferenceParams>(step.params);
  BoundStep bound;
  ReferenceArgs& args = bound.make<ReferenceArgs>();
  args.op = &builtin_ops().at(params.op);
  args.attrs = parsed(*args.op, params.attrs);
  check_step(c, step, args);
  args.bindings = c.bindings;
  args.where = c.nodes_text(step);
  for (const int32_t v : step.inputs) args.in.push_back(port(c, v));
  for (const int32_t v : step.outputs) args.out.push_back(port(c, v));
  for (size_t i = 0; i < step.inputs.size(); ++i) {
    bound.relocate(args.in[i].data, step.inputs[i]);
  }
  for (size_t i = 0; i < step.outputs.size(); ++i) {
    if (step.outputs[i] < 0 || !c.at(step.outputs[i]).late) {
      bound.relocate(args.out[i].data, step.outputs[i]);
      continue;
    }
    args.out[i].made = &bound.make<Tensor>();
    bound.late.push_back({step.outputs[i], args.out[i].made});
  }
  bound.jobs.push_back({run_reference, &args, 1});
  return bound;
}

}  // namespace planck
