#include "importer/builder.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <span>

#include "base/guard.h"
#include "importer/adapters.h"
#include "importer/attributes.h"
#include "importer/dim_names.h"
#include "importer/expansions.h"
#include "importer/known.h"
#include "importer/rules.h"
#include "importer/scope.h"
#include "ops/needs_values.h"

namespace planck::importer {
namespace {

using onnx::AttributeProto;
using onnx::GraphProto;
using onnx::NodeProto;

// What differs between the main graph and the body of an inlined function.
struct Frame {
  const Opsets* opsets = nullptr;
  bool function = false;
  std::map<std::string, AttributeProto> bound;  // attributes of the call, defaults included
  std::string prefix;                           // "call/": keeps names of values and nodes apart
  Origin callers;
  std::string subgraph;  // path for errors: "If_3/then_branch"
};

// The graph attributes that an op has, in the order of Node::subgraphs.
std::span<const char* const> subgraph_names(const std::string& op) {
  static constexpr const char* kIf[] = {"then_branch", "else_branch"};
  static constexpr const char* kBody[] = {"body"};
  if (op == "If") return kIf;
  if (op == "Loop" || op == "Scan" || op == "SequenceMap") return kBody;
  return {};
}

class ModelBuilder {
 public:
  ModelBuilder(const onnx::ModelProto& model, const OpTable& ops, Payloads& payloads,
               const ImportOptions& options)
      : model_(model),
        ops_(ops),
        payloads_(payloads),
        opsets_(model.opset_import()),
        functions_(model, ops, payloads.limits),
        options_(options),
        dims_(sizes_of_given(model, options)) {}

  Graph run() {
    if (!model_.has_graph()) throw GraphError("the model has no graph");
    check_supported(model_, ops_, functions_);
    Graph graph(ops_);
    graph.sources = sources_;
    Scope scope(graph, model_.graph().node(), nullptr);
    Frame frame;
    frame.opsets = &opsets_;
    check_fed();
    check_given();
    KnownValues known(graph);
    known_ = &known;
    fill(scope, model_.graph(), frame);
    keep_unread(graph);
    return graph;
  }

 private:
  // Constants that nobody reads, such as the empty ones that stand for an input left away.
  static void keep_unread(Graph& graph) {
    for (size_t i = 0; i < graph.value_count(); ++i) {
      const Value& v = graph.value(static_cast<ValueId>(i));
      if (v.is_constant() && graph.uses(v.id) == 0) merge_origin(graph.unused, v.origin);
    }
  }

  // --- graphs ---
  void fill(Scope& scope, const GraphProto& proto, const Frame& frame) {
    scope.graph().name = proto.name();
    add_initializers(scope, proto, frame);
    add_inputs(scope, proto, frame);
    for (const NodeProto& node : proto.node()) add_node(scope, node, frame);
    add_outputs(scope, proto);
  }

  void add_initializers(Scope& scope, const GraphProto& proto, const Frame& frame) {
    const auto add = [&](const std::string& name, Tensor tensor) {
      scope.define(name, scope.graph().add_constant(std::move(tensor), frame.prefix + name));
      check_guard();
    };
    for (const onnx::TensorProto& t : proto.initializer()) {
      if (t.name().empty()) throw GraphError("an initializer has no name");
      if (!options_.fed_initializers.contains(t.name())) add(t.name(), initializer(t));
    }
    for (const onnx::SparseTensorProto& t : proto.sparse_initializer()) {
      if (t.values().name().empty()) throw GraphError("a sparse initializer has no name");
      add(t.values().name(), read_sparse(t, payloads_));
    }
  }

  // The caller's tensor of this name, else the model's.
  Tensor initializer(const onnx::TensorProto& proto) {
    const auto it = options_.initializers.find(proto.name());
    if (it == options_.initializers.end()) return read_tensor(proto, payloads_);
    const Tensor& given = it->second;
    const Shape shape(proto.dims().begin(), proto.dims().end());
    const DType dtype = element_type(proto.data_type());
    if (given.dtype() != dtype || given.shape() != shape) {
      const std::string want = cat(dtype, shape_text(shape)), got = cat(given.type());
      throw with(UsageError("the initializer '", proto.name(), "' is ", want, ", given is ", got),
                 {.expected = want, .got = got});
    }
    return given;
  }

  void check_fed() const {
    const auto& initializers = model_.graph().initializer();
    const auto& inputs = model_.graph().input();
    for (const std::string& name : options_.fed_initializers) {
      const auto has_name = [&](const auto& proto) { return proto.name() == name; };
      if (std::ranges::none_of(initializers, has_name) || std::ranges::none_of(inputs, has_name)) {
        throw with(UsageError("the model has no input '", name, "' with an initializer"),
                   {.got = name});
      }
    }
  }

  void check_given() const {
    for (const auto& given : options_.initializers) {
      const std::string& name = given.first;
      const auto has_name = [&](const auto& proto) { return proto.name() == name; };
      if (std::ranges::none_of(model_.graph().initializer(), has_name) &&
          std::ranges::none_of(model_.graph().input(), has_name)) {
        throw with(UsageError("the model has no initializer or input '", name, "'"), {.got = name});
      }
    }
  }

  void add_inputs(Scope& scope, const GraphProto& proto, const Frame& frame) {
    std::set<std::string> seen;
    for (const onnx::ValueInfoProto& input : proto.input()) {
      if (!seen.insert(input.name()).second) {
        throw GraphError("the input '", input.name(), "' is listed twice");
      }
      if (scope.defines(input.name())) continue;  // old exporters list initializers as inputs too
      TensorType type =
          with_context([&] { return declared_type(input); }, "input '", input.name(), "'");
      if (&proto == &model_.graph() && options_.initializers.contains(input.name())) {
        add_given(scope, input.name(), type);
        continue;
      }
      scope.define(input.name(),
                   scope.graph().add_input(frame.prefix + input.name(), std::move(type)));
    }
  }

  // An input whose value the caller gave is a constant of the plan, and no input of it.
  void add_given(Scope& scope, const std::string& name, const TensorType& type) {
    const Tensor& given = options_.initializers.at(name);
    const TensorType got = given.type();
    bool fits = got.dtype == type.dtype && got.rank() == type.rank();
    for (size_t i = 0; fits && i < type.dims.size(); ++i) {
      fits = !type.dims[i].known() || type.dims[i] == got.dims[i];
    }
    if (!fits) {
      throw with(UsageError("the input '", name, "' is ", type, ", given is ", got),
                 {.expected = cat(type), .got = cat(got)});
    }
    scope.define(name, scope.graph().add_constant(given, name));
  }

  // Extents by the names of dimensions: what the caller says, and what the inputs' values say.
  static std::map<std::string, int64_t> sizes_of_given(const onnx::ModelProto& model,
                                                       const ImportOptions& options) {
    std::map<std::string, int64_t> sizes = options.dims;
    for (const onnx::ValueInfoProto& input : model.graph().input()) {
      const auto given = options.initializers.find(input.name());
      if (given == options.initializers.end()) continue;
      const auto& declared = input.type().tensor_type().shape().dim();
      const Shape& shape = given->second.shape();
      for (size_t i = 0; i < shape.size() && std::cmp_less(i, declared.size()); ++i) {
        const std::string& name = declared[static_cast<int>(i)].dim_param();
        if (!name.empty()) sizes.try_emplace(name, shape[i]);
      }
    }
    return sizes;
  }

  TensorType declared_type(const onnx::ValueInfoProto& input) {
    const onnx::TypeProto& type = input.type();
    if (type.value_case() == onnx::TypeProto::VALUE_NOT_SET) throw GraphError("has no type");
    if (!type.has_tensor_type()) {
      throw with(UnsupportedError("inputs that are no tensors are not supported"),
                 {.items = {"input " + input.name()}});
    }
    const onnx::TypeProto::Tensor& tensor = type.tensor_type();
    if (!tensor.has_shape()) {
      throw with(UnsupportedError("inputs of unknown rank are not supported"),
                 {.hint = "give the input a shape; its extents may stay symbolic",
                  .items = {"input " + input.name()}});
    }
    within("rank", payloads_.limits.rank, tensor.shape().dim_size(), "dimensions");
    TensorType out{element_type(tensor.elem_type()), {}};
    for (const auto& d : tensor.shape().dim()) {
      out.dims.push_back(declared_dim(d, input.name(), out.rank()));
    }
    return out;
  }

  Dim declared_dim(const onnx::TensorShapeProto::Dimension& d, const std::string& input,
                   int64_t axis) {
    if (d.has_dim_value()) {
      if (d.dim_value() == -1) return dims_.unknown(input, axis);  // how some exporters say "any"
      if (d.dim_value() < 0) throw GraphError("axis ", axis, " has the extent ", d.dim_value());
      return d.dim_value();
    }
    const std::string& name = d.dim_param();
    return name.empty() || name == "?" || name == "-1" ? dims_.unknown(input, axis)
                                                       : dims_.named(name);
  }

  void add_outputs(Scope& scope, const GraphProto& proto) {
    std::set<std::string> seen;
    for (const onnx::ValueInfoProto& output : proto.output()) {
      if (!seen.insert(output.name()).second) {
        throw with(GraphError("the output '", output.name(), "' is listed twice"),
                   {.hint = "list it once, or give the second one a name by an Identity"});
      }
      const ValueId id =
          with_context([&] { return scope.find(output.name()); }, "output '", output.name(), "'");
      if (id == kAbsent) throw GraphError("the output '", output.name(), "' has no value");
      check_declared(output, scope.graph().value(id).type());
      scope.graph().add_output(id, output.name());
    }
    if (proto.output_size() == 0) throw GraphError("a graph has no outputs");
  }

  // Shapes of outputs are often stale, types never are.
  static void check_declared(const onnx::ValueInfoProto& output, const TensorType& type) {
    const int declared = output.type().tensor_type().elem_type();
    if (declared != 0 && declared != info(type.dtype).onnx) {
      throw with(GraphError("the output '", output.name(), "' is declared as type ", declared,
                            ", the graph computes ", type),
                 {.expected = cat(declared), .got = cat(type.dtype)});
    }
  }

  // --- nodes ---
  void add_node(Scope& scope, const NodeProto& proto, const Frame& frame) {
    within("nodes", payloads_.limits.nodes, ++nodes_, "nodes after inlining");
    check_guard();
    const auto index = static_cast<int32_t>(sources_->size());
    sources_->push_back(
        {frame.prefix + (proto.name().empty() ? cat(proto.op_type(), '_', index) : proto.name()),
         op_text(proto)});
    Origin origin = frame.callers;
    merge_origin(origin, {index});
    try {
      place(scope, proto, frame, origin);
    } catch (Error& e) {
      describe(e, proto, (*sources_)[static_cast<size_t>(index)].name, frame);
      throw;
    }
  }

  static void describe(Error& e, const NodeProto& proto, const std::string& name,
                       const Frame& frame) {
    e.locate(name, proto.op_type(), proto.domain());  // unless an inner node said more
    if (e.fields.subgraph.empty()) e.fields.subgraph = frame.subgraph;
  }

  void place(Scope& scope, const NodeProto& proto, const Frame& frame, const Origin& origin) {
    const std::string& name = (*sources_)[static_cast<size_t>(origin.back())].name;
    if (const onnx::FunctionProto* function = functions_.called_by(proto)) {
      return with_context([&] { inline_call(scope, proto, *function, frame, origin); }, "call ",
                          std::string(name), " (", op_text(proto), ")");
    }
    if (domain_of(proto.domain()).empty() && is_control_flow(proto.op_type())) {
      return with_context([&] { unroll(scope, proto, frame, origin); }, "node ", std::string(name),
                          " (", op_text(proto), ")");
    }
    Node node = with_context([&] { return drafted(scope, proto, frame, origin); }, "node ",
                             std::string(name), " (", op_text(proto), ")");
    if (node.op != nullptr) append_known(scope.graph(), node);
  }

  // Where inference wants contents that it does not follow itself (of ConstantOfShape and the like
  // over extents that are numbers), they are computed here.
  void append_known(Graph& graph, Node& node) {
    try {
      return append(graph, node);
    } catch (const UnsupportedError& e) {
      if (e.fields.hint != kNeedsValues || !use_known(graph, node)) throw;
    }
    append(graph, std::move(node));
  }

  // Replaces the inputs behind the first that are known; whether there was one.
  bool use_known(Graph& graph, Node& node) {
    bool found = false;
    for (size_t i = 1; i < node.inputs.size(); ++i) {
      const ValueId v = node.inputs[i];
      if (v == kAbsent || graph.value(v).is_constant()) continue;
      const Wide* wide = known_->find(v);
      if (wide == nullptr) continue;
      node.inputs[i] = graph.add_constant(narrow(*wide));
      graph.add_origin(node.inputs[i], graph.producer(v)->origin);
      found = true;
    }
    return found;
  }

  // Everything of a node but its inference. No op: it was a constant, or became other nodes.
  Node drafted(Scope& scope, const NodeProto& proto, const Frame& frame, const Origin& origin) {
    if (proto.output_size() == 0) throw GraphError("a node without outputs");
    const int64_t opset = frame.opsets->at(proto.domain());
    Node node;
    Draft draft;
    draft.op = proto.op_type();
    draft.opset = opset;
    for (const std::string& input : proto.input()) {
      draft.inputs.push_back(input.empty() ? kAbsent : scope.find(input));
    }
    trim(draft.inputs);
    draft.outputs = static_cast<size_t>(proto.output_size());
    std::vector<Scope::Capture> captures;
    add_attributes(draft, node, scope, proto, frame, captures);
    if (draft.op == "Constant") {
      add_constant(scope, proto, constant_value(draft), frame, origin);
      return node;
    }
    Emitter emit(scope.graph(), origin);
    if (const std::string domain = domain_of(proto.domain()); expands(domain, draft.op)) {
      define_results(scope, proto, expand(domain, draft, emit), frame);
      return node;
    }
    adapt(draft, opset, emit);
    if (!draft.tensors.empty()) {
      throw GraphError(draft.op, " has no tensor attribute ", draft.tensors.begin()->first);
    }
    node.op = &ops_.at(draft.op);
    node.attrs = node.op->parse(draft.attrs);
    node.inputs = std::move(draft.inputs);
    for (const Scope::Capture& c : captures) node.inputs.push_back(c.outer);
    node.captures = static_cast<int32_t>(captures.size());
    // A node with sub-graphs covers their nodes, whose indices follow its own.
    node.origin = origin;
    Origin inner;
    for (auto i = static_cast<size_t>(origin.back()) + 1; i < sources_->size(); ++i) {
      inner.push_back(static_cast<int32_t>(i));
    }
    merge_origin(node.origin, inner);
    for (const std::string& output : proto.output()) {
      node.outputs.push_back(add_result(scope, output, frame));
    }
    trim(node.outputs);
    if (node.outputs.empty()) node.outputs.push_back(kAbsent);
    return node;
  }

  static void define_results(Scope& scope, const NodeProto& proto,
                             const std::vector<ValueId>& results, const Frame& frame) {
    for (int i = 0; i < proto.output_size(); ++i) {
      const std::string& name = proto.output(i);
      if (name.empty()) continue;
      const ValueId id = results[static_cast<size_t>(i)];
      if (id == kAbsent) {
        throw with(UnsupportedError("output ", i, " of ", proto.op_type(), " is not supported"),
                   {.items = {cat(op_text(proto), " with output ", i)}});
      }
      scope.define(name, id);
      if (scope.graph().value(id).name.empty()) scope.graph().set_name(id, frame.prefix + name);
    }
  }

  static void trim(std::vector<ValueId>& ids) {
    while (!ids.empty() && ids.back() == kAbsent) ids.pop_back();
  }

  ValueId add_result(Scope& scope, const std::string& name, const Frame& frame) {
    if (name.empty()) return kAbsent;
    const ValueId id = scope.graph().add_value({}, frame.prefix + name);
    scope.define(name, id);
    return id;
  }

  void add_constant(Scope& scope, const NodeProto& proto, Tensor tensor, const Frame& frame,
                    const Origin& origin) {
    if (proto.input_size() != 0 || proto.output_size() != 1) {
      throw GraphError("Constant takes no inputs and has one output");
    }
    if (proto.output(0).empty()) return merge_origin(scope.graph().unused, origin);
    const ValueId id =
        scope.graph().add_constant(std::move(tensor), frame.prefix + proto.output(0));
    scope.graph().add_origin(id, origin);
    scope.define(proto.output(0), id);
  }

  // --- attributes and sub-graphs ---
  // The attribute itself, or inside a function what the call gives for it; nothing if it gives
  // none.
  static std::optional<AttributeProto> bound(const AttributeProto& a, const Frame& frame) {
    if (!frame.function) throw GraphError("attribute '", a.name(), "' refers to a function's");
    const auto it = frame.bound.find(a.ref_attr_name());
    if (it == frame.bound.end()) return std::nullopt;
    AttributeProto out = it->second;
    out.set_name(a.name());
    return out;
  }

  void add_attributes(Draft& draft, Node& node, Scope& scope, const NodeProto& proto,
                      const Frame& frame, std::vector<Scope::Capture>& captures) {
    std::map<std::string, const GraphProto*> graphs;
    std::vector<std::unique_ptr<AttributeProto>> kept;  // what the pointers point into
    for (const AttributeProto& given : proto.attribute()) {
      const AttributeProto* a = &given;
      if (!given.ref_attr_name().empty()) {
        const std::optional<AttributeProto> value = bound(given, frame);
        if (!value) continue;
        kept.push_back(std::make_unique<AttributeProto>(*value));
        a = kept.back().get();
      }
      if (type_of(*a) != AttributeProto::GRAPH) {
        add_attribute(draft, *a, payloads_);
      } else if (!graphs.emplace(a->name(), &a->g()).second) {
        throw GraphError("attribute '", a->name(), "' is given twice");
      }
    }
    add_subgraphs(node, scope, proto, frame, graphs, captures);
  }

  void add_subgraphs(Node& node, Scope& scope, const NodeProto& proto, const Frame& frame,
                     const std::map<std::string, const GraphProto*>& graphs,
                     std::vector<Scope::Capture>& captures) {
    const auto names = subgraph_names(proto.op_type());
    for (const auto& [name, graph] : graphs) {
      if (std::ranges::find(names, name) == names.end()) {
        throw GraphError(proto.op_type(), " has no graph attribute ", name);
      }
    }
    std::vector<std::unique_ptr<Graph>> bodies;
    std::vector<std::unique_ptr<Scope>> scopes;
    for (const char* name : names) {
      const auto it = graphs.find(name);
      if (it == graphs.end()) throw GraphError(proto.op_type(), " needs the graph ", name);
      bodies.push_back(std::make_unique<Graph>(ops_));
      bodies.back()->sources = sources_;
      scopes.push_back(std::make_unique<Scope>(*bodies.back(), it->second->node(), &scope));
      Frame inner = frame;
      inner.subgraph += cat(inner.subgraph.empty() ? "" : "/", proto.name(), '/', name);
      with_context([&] { fill(*scopes.back(), *it->second, inner); }, "sub-graph ", name);
    }
    captures = all_captures(scopes);
    for (size_t i = 0; i < bodies.size(); ++i) {
      add_captures(*bodies[i], *scopes[i], captures);
      node.subgraphs.push_back(std::move(bodies[i]));
    }
  }

  // What any of a node's sub-graphs captures; all of them get all of it, in one order.
  static std::vector<Scope::Capture> all_captures(
      const std::vector<std::unique_ptr<Scope>>& scopes) {
    std::vector<Scope::Capture> all;
    std::set<ValueId> seen;
    for (const auto& scope : scopes) {
      for (const Scope::Capture& c : scope->captures()) {
        if (seen.insert(c.outer).second) all.push_back(c);
      }
    }
    return all;
  }

  static void add_captures(Graph& body, Scope& scope, const std::vector<Scope::Capture>& all) {
    std::map<ValueId, ValueId> own;
    for (const Scope::Capture& c : scope.captures()) own.emplace(c.outer, c.inner);
    for (const Scope::Capture& c : all) {
      const auto it = own.find(c.outer);
      body.inputs.push_back(it != own.end() ? it->second : scope.find(c.name));
    }
  }

  // --- control flow ---
  // The plan has no branches: what the model itself decides is decided here.
  void unroll(Scope& scope, const NodeProto& proto, const Frame& frame, const Origin& origin) {
    if (frame.opsets->at(proto.domain()) < 9 && proto.op_type() == "Scan") {
      throw with(UnsupportedError("Scan of opset 8, with its batch axis, is not supported"),
                 {.hint = "convert the model to opset 9 or later", .items = {"Scan of opset 8"}});
    }
    Flow flow{scope, proto, frame, origin, {}, {}};
    for (const AttributeProto& a : proto.attribute()) {
      if (!a.ref_attr_name().empty()) throw GraphError("attribute '", a.name(), "' of a function");
      if (!flow.attributes.emplace(a.name(), &a).second) {
        throw GraphError("attribute '", a.name(), "' is given twice");
      }
    }
    for (const std::string& input : proto.input()) {
      flow.inputs.push_back(input.empty() ? kAbsent : scope.find(input));
    }
    const int64_t before = scope.graph().node_count();
    std::vector<ValueId> results = proto.op_type() == "If"     ? taken_branch(flow)
                                   : proto.op_type() == "Loop" ? loop_results(flow)
                                                               : scan_results(flow);
    if (std::cmp_less(results.size(), proto.output_size())) {
      throw GraphError("the node has ", proto.output_size(), " outputs, its graph ",
                       results.size());
    }
    // Every ONNX node is the origin of something.
    if (scope.graph().node_count() == before && !results.empty()) {
      results[0] = Emitter(scope.graph(), origin).node("Identity", {results[0]});
    }
    define_results(scope, proto, results, frame);
  }

  struct Flow {
    Scope& scope;
    const NodeProto& proto;
    const Frame& frame;
    const Origin& origin;
    std::map<std::string, const AttributeProto*> attributes;
    std::vector<ValueId> inputs;

    ValueId input(size_t i) const { return i < inputs.size() ? inputs[i] : kAbsent; }
    const GraphProto& graph(const char* name) const {
      const auto it = attributes.find(name);
      if (it == attributes.end() || type_of(*it->second) != AttributeProto::GRAPH) {
        throw GraphError(proto.op_type(), " needs the graph ", name);
      }
      return it->second->g();
    }
    std::vector<int64_t> ints(const char* name, size_t count) const {
      const auto it = attributes.find(name);
      if (it == attributes.end()) return std::vector<int64_t>(count, 0);
      const auto& given = it->second->ints();
      if (std::cmp_not_equal(given.size(), count)) {
        throw GraphError("attribute '", name, "' has ", given.size(), " numbers, expected ", count);
      }
      return {given.begin(), given.end()};
    }
  };

  int64_t decided(ValueId v, const char* what) {
    const std::optional<int64_t> number = v == kAbsent ? std::nullopt : known_->number(v);
    if (number) return *number;
    throw with(UnsupportedError(what, " must be known before the run"),
               {.hint = kNeedsValues, .items = {what}});
  }

  // The outputs of a graph whose nodes become nodes of the graph around it.
  std::vector<ValueId> inlined(const Flow& flow, const GraphProto& graph, const std::string& part,
                               const std::vector<ValueId>& inputs) {
    if (std::cmp_not_equal(graph.input_size(), inputs.size())) {
      throw GraphError("the graph ", part, " has ", graph.input_size(), " inputs, expected ",
                       inputs.size());
    }
    within("nodes", payloads_.limits.nodes, ++nodes_, "nodes after inlining");
    const std::string& name = (*sources_)[static_cast<size_t>(flow.origin.back())].name;
    Frame inner = flow.frame;
    inner.callers = flow.origin;
    inner.prefix = cat(name, '/', part, '/');
    inner.subgraph += cat(inner.subgraph.empty() ? "" : "/", flow.proto.name(), '/', part);
    Scope body(flow.scope.graph(), graph.node(), &flow.scope);
    for (size_t i = 0; i < inputs.size(); ++i) {
      body.define(graph.input(static_cast<int>(i)).name(), inputs[i]);
    }
    add_initializers(body, graph, inner);
    for (const NodeProto& node : graph.node()) add_node(body, node, inner);
    std::vector<ValueId> out;
    for (const onnx::ValueInfoProto& output : graph.output()) {
      out.push_back(body.find(output.name()));
      if (out.back() == kAbsent) throw GraphError("the output '", output.name(), "' has no value");
    }
    return out;
  }

  std::vector<ValueId> taken_branch(const Flow& flow) {
    const bool yes = decided(flow.input(0), "the condition of an If") != 0;
    const GraphProto& other = flow.graph(yes ? "else_branch" : "then_branch");
    std::vector<ValueId> out =
        inlined(flow, flow.graph(yes ? "then_branch" : "else_branch"), yes ? "then" : "else", {});
    const std::string& name = (*sources_)[static_cast<size_t>(flow.origin.back())].name;
    leave_out(flow, other, cat(name, yes ? "/else/" : "/then/"));
    return out;
  }

  // Nodes of a branch that is never taken, by name.
  void leave_out(const Flow& flow, const GraphProto& graph, const std::string& prefix) {
    for_each_node(graph.node(), [&](const NodeProto& node, int64_t) {
      const auto index = static_cast<int32_t>(sources_->size());
      sources_->push_back(
          {prefix + (node.name().empty() ? cat(node.op_type(), '_', index) : node.name()),
           op_text(node)});
      merge_origin(flow.scope.graph().unused, {index});
    });
  }

  // Values of all trips as one: along a new axis, the last trip first if `reversed`.
  static ValueId stacked(const Flow& flow, std::vector<ValueId> parts, int64_t axis,
                         bool reversed) {
    if (parts.empty()) {
      throw with(UnsupportedError("values that ", flow.proto.op_type(),
                                  " gathers over no trips are not supported"),
                 {.items = {flow.proto.op_type() + " of no trips"}});
    }
    if (reversed) std::ranges::reverse(parts);
    Emitter emit(flow.scope.graph(), flow.origin);
    for (ValueId& v : parts) {
      const ValueId axes = emit.ints({axis});
      v = emit.node("Unsqueeze", {v, axes});
    }
    return parts.size() == 1 ? parts[0] : emit.node("Concat", parts, {{"axis", axis}});
  }

  std::vector<ValueId> loop_results(const Flow& flow) {
    const GraphProto& body = flow.graph("body");
    const int64_t most = flow.input(0) == kAbsent
                             ? INT64_MAX
                             : decided(flow.input(0), "how many trips a Loop makes");
    bool on = flow.input(1) == kAbsent || decided(flow.input(1), "the condition of a Loop") != 0;
    const size_t states = flow.inputs.size() < 2 ? 0 : flow.inputs.size() - 2;
    if (std::cmp_less(body.output_size(), states + 1)) {
      throw GraphError("the body of the Loop has ", body.output_size(), " outputs for ", states,
                       " values that it carries");
    }
    std::vector<ValueId> carried(
        flow.inputs.begin() + static_cast<std::ptrdiff_t>(std::min<size_t>(2, flow.inputs.size())),
        flow.inputs.end());
    std::vector<std::vector<ValueId>> gathered(static_cast<size_t>(body.output_size()) - states -
                                               1);
    for (int64_t trip = 0; on && trip < most; ++trip) {
      Emitter emit(flow.scope.graph(), flow.origin);
      std::vector<ValueId> inputs = {emit.number(static_cast<double>(trip), DType::s64),
                                     emit.number(1, DType::b8)};
      inputs.insert(inputs.end(), carried.begin(), carried.end());
      const std::vector<ValueId> out = inlined(flow, body, cat(trip), inputs);
      carried.assign(out.begin() + 1, out.begin() + 1 + static_cast<std::ptrdiff_t>(states));
      for (size_t i = 0; i < gathered.size(); ++i) gathered[i].push_back(out[1 + states + i]);
      on = trip + 1 < most && decided(out[0], "whether a Loop goes on") != 0;
    }
    for (std::vector<ValueId>& parts : gathered) {
      carried.push_back(stacked(flow, std::move(parts), 0, false));
    }
    return carried;
  }

  std::vector<ValueId> scan_results(const Flow& flow) {
    const GraphProto& body = flow.graph("body");
    const auto it = flow.attributes.find("num_scan_inputs");
    const int64_t count = it == flow.attributes.end() ? 0 : it->second->i();
    if (count < 1 || std::cmp_greater(count, flow.inputs.size())) {
      throw GraphError("Scan over ", count, " of ", flow.inputs.size(), " inputs");
    }
    const auto scanned = static_cast<size_t>(count);
    const size_t states = flow.inputs.size() - scanned;
    if (std::cmp_less(body.output_size(), states)) {
      throw GraphError("the body of the Scan has ", body.output_size(), " outputs for ", states,
                       " values that it carries");
    }
    const size_t outputs = static_cast<size_t>(body.output_size()) - states;
    const auto axes = flow.ints("scan_input_axes", scanned);
    const auto backwards = flow.ints("scan_input_directions", scanned);
    const int64_t trips = scan_trips(flow, states, axes);
    std::vector<ValueId> carried(flow.inputs.begin(),
                                 flow.inputs.begin() + static_cast<std::ptrdiff_t>(states));
    std::vector<std::vector<ValueId>> gathered(outputs);
    for (int64_t trip = 0; trip < trips; ++trip) {
      std::vector<ValueId> inputs = carried;
      for (size_t i = 0; i < scanned; ++i) {
        const int64_t place = backwards[i] != 0 ? trips - 1 - trip : trip;
        Emitter emit(flow.scope.graph(), flow.origin);
        const ValueId index = emit.number(static_cast<double>(place), DType::s64);
        inputs.push_back(
            emit.node("Gather", {flow.inputs[states + i], index}, {{"axis", axes[i]}}));
      }
      const std::vector<ValueId> out = inlined(flow, body, cat(trip), inputs);
      carried.assign(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(states));
      for (size_t i = 0; i < outputs; ++i) gathered[i].push_back(out[states + i]);
    }
    const auto out_axes = flow.ints("scan_output_axes", outputs);
    const auto reversed = flow.ints("scan_output_directions", outputs);
    for (size_t i = 0; i < outputs; ++i) {
      carried.push_back(stacked(flow, std::move(gathered[i]), out_axes[i], reversed[i] != 0));
    }
    return carried;
  }

  // The extent that all scanned inputs have along their axes.
  static int64_t scan_trips(const Flow& flow, size_t states, const std::vector<int64_t>& axes) {
    std::optional<int64_t> trips;
    for (size_t i = 0; i < axes.size(); ++i) {
      const ValueId v = flow.input(states + i);
      if (v == kAbsent) throw GraphError("an input of Scan is missing");
      const TensorType& type = flow.scope.graph().value(v).type();
      const int64_t axis = checked_axis(axes[i], type.rank());
      const auto extent = type.dims[static_cast<size_t>(axis)].known();
      if (!extent) {
        throw with(UnsupportedError("how many trips a Scan makes must be known before the run: it "
                                    "goes over axis ",
                                    axis, " of ", type),
                   {.hint = "give the extent when the plan is built: dims={name: number}",
                    .items = {"Scan over an extent that is no number"}});
      }
      if (trips && *trips != *extent) {
        throw GraphError("Scan goes over extents ", *trips, " and ", *extent);
      }
      trips = extent;
    }
    return trips.value_or(0);
  }

  // --- functions ---
  void inline_call(Scope& scope, const NodeProto& call, const onnx::FunctionProto& function,
                   const Frame& frame, const Origin& origin) {
    if (call.input_size() > function.input_size() || call.output_size() > function.output_size()) {
      throw GraphError("the call has ", call.input_size(), " inputs and ", call.output_size(),
                       " outputs, the function ", function.input_size(), " and ",
                       function.output_size());
    }
    const Opsets opsets(function.opset_import());
    Frame inner;
    inner.opsets = &opsets;
    inner.function = true;
    inner.bound = bind_attributes(call, function, frame);
    inner.prefix = (*sources_)[static_cast<size_t>(origin.back())].name + "/";
    inner.callers = origin;
    inner.subgraph = frame.subgraph;
    Scope body(scope.graph(), function.node(), nullptr);
    for (int i = 0; i < function.input_size(); ++i) {
      const bool given = i < call.input_size() && !call.input(i).empty();
      body.define(function.input(i), given ? scope.find(call.input(i)) : kAbsent);
    }
    for (const NodeProto& node : function.node()) add_node(body, node, inner);
    for (int i = 0; i < call.output_size(); ++i) {
      if (call.output(i).empty()) continue;
      const ValueId id = body.find(function.output(i));
      scope.define(call.output(i), id);
      // Outside it is known by the name that the call gives it, if it was made here at all.
      if (id != kAbsent && scope.graph().value(id).name == inner.prefix + function.output(i)) {
        scope.graph().set_name(id, frame.prefix + call.output(i));
      }
    }
  }

  static std::map<std::string, AttributeProto> bind_attributes(const NodeProto& call,
                                                               const onnx::FunctionProto& function,
                                                               const Frame& frame) {
    std::map<std::string, AttributeProto> out;
    for (const AttributeProto& a : function.attribute_proto()) out[a.name()] = a;
    for (const AttributeProto& a : call.attribute()) {
      if (!out.contains(a.name()) &&
          std::ranges::find(function.attribute(), a.name()) == function.attribute().end()) {
        throw GraphError("the function has no attribute ", a.name());
      }
      if (a.ref_attr_name().empty()) {
        out[a.name()] = a;
      } else if (auto value = bound(a, frame)) {
        out[a.name()] = std::move(*value);
      }
    }
    return out;
  }

  const onnx::ModelProto& model_;
  const OpTable& ops_;
  Payloads& payloads_;
  Opsets opsets_;
  Functions functions_;
  const ImportOptions& options_;
  DimNames dims_;
  std::shared_ptr<std::vector<SourceNode>> sources_ = std::make_shared<std::vector<SourceNode>>();
  KnownValues* known_ = nullptr;  // of the graph that is built
  int64_t nodes_ = 0;
};

}  // namespace

Graph build_graph(const onnx::ModelProto& model, const OpTable& ops, Payloads& payloads,
                  const ImportOptions& options) {
  return ModelBuilder(model, ops, payloads, options).run();
}

}  // namespace planck::importer
