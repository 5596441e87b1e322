// Models made by hand, whole and damaged, through the importer.
#include "importer/importer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>

#include "importer/external_data.h"
#include "importer/onnx_proto.h"
#include "importer/sha1.h"
#include "ops/ops.h"

namespace planck {
namespace {

namespace fs = std::filesystem;
using onnx::AttributeProto;
using onnx::GraphProto;
using onnx::ModelProto;
using onnx::NodeProto;
using onnx::TensorProto;

ModelProto model_of(int64_t opset = 17) {
  ModelProto model;
  model.set_ir_version(8);
  auto* import = model.add_opset_import();
  import->set_version(opset);
  model.mutable_graph()->set_name("test");
  return model;
}

onnx::ValueInfoProto* add_input(GraphProto& graph, const std::string& name,
                                const std::vector<std::string>& dims, int type = 1) {
  auto* input = graph.add_input();
  input->set_name(name);
  auto* tensor = input->mutable_type()->mutable_tensor_type();
  tensor->set_elem_type(type);
  tensor->mutable_shape();
  for (const std::string& d : dims) {
    auto* dim = tensor->mutable_shape()->add_dim();
    if (!d.empty() && d.find_first_not_of("-0123456789") == std::string::npos) {
      dim->set_dim_value(std::stoll(d));
    } else if (!d.empty()) {
      dim->set_dim_param(d);
    }
  }
  return input;
}

NodeProto* add_node(GraphProto& graph, const std::string& op, const std::vector<std::string>& in,
                    const std::vector<std::string>& out) {
  NodeProto* node = graph.add_node();
  node->set_op_type(op);
  for (const std::string& name : in) node->add_input(name);
  for (const std::string& name : out) node->add_output(name);
  return node;
}

void add_output(GraphProto& graph, const std::string& name) { graph.add_output()->set_name(name); }

void set_ints(NodeProto* node, const std::string& name, const std::vector<int64_t>& values) {
  AttributeProto* a = node->add_attribute();
  a->set_name(name);
  a->set_type(AttributeProto::INTS);
  for (const int64_t v : values) a->add_ints(v);
}
void set_int(NodeProto* node, const std::string& name, int64_t value) {
  AttributeProto* a = node->add_attribute();
  a->set_name(name);
  a->set_type(AttributeProto::INT);
  a->set_i(value);
}
void set_float(NodeProto* node, const std::string& name, float value) {
  AttributeProto* a = node->add_attribute();
  a->set_name(name);
  a->set_type(AttributeProto::FLOAT);
  a->set_f(value);
}

TensorProto* add_floats(GraphProto& graph, const std::string& name,
                        const std::vector<int64_t>& dims, const std::vector<float>& values) {
  TensorProto* t = graph.add_initializer();
  t->set_name(name);
  t->set_data_type(TensorProto::FLOAT);
  for (const int64_t d : dims) t->add_dims(d);
  for (const float v : values) t->add_float_data(v);
  return t;
}

// x + w -> y, the model that most tests change.
ModelProto addition() {
  ModelProto model = model_of();
  GraphProto& g = *model.mutable_graph();
  add_input(g, "x", {"N", "2"});
  add_floats(g, "w", {2}, {1, 2});
  add_node(g, "Add", {"x", "w"}, {"y"});
  add_output(g, "y");
  return model;
}

Graph import(const std::string& bytes, const ImportOptions& options = {}) {
  return import_bytes(std::as_bytes(std::span(bytes)), builtin_ops(), options);
}
Graph import(const ModelProto& model, const ImportOptions& options = {}) {
  return import(model.SerializeAsString(), options);
}

// "GraphError: the text", or "" when it imports.
std::string failure(const auto& model, const ImportOptions& options = {}) {
  try {
    verify(import(model, options));
  } catch (const Error& e) {
    return cat(e.kind(), ": ", e.what());
  }
  return "";
}

void expect_failure(const auto& model, const std::string& kind, const std::string& part,
                    const ImportOptions& options = {}) {
  const std::string text = failure(model, options);
  EXPECT_TRUE(text.starts_with(kind + ":")) << "expected " << kind << ", got: " << text;
  EXPECT_NE(text.find(part), std::string::npos) << "expected '" << part << "' in: " << text;
}

std::string body(const Graph& g) {
  verify(g);
  std::string text = print(g);
  return text.substr(text.find('{') + 2);
}

// --- what comes out --------------------------------------------------------------------------

TEST(Importer, ReadsNamesShapesAndOrigins) {
  const Graph g = import(addition());
  verify(g);
  ASSERT_EQ(g.inputs.size(), 1u);
  EXPECT_EQ(cat(g.value(g.inputs[0]).type()), "f32[N,2]");
  ASSERT_EQ(g.output_names, std::vector<std::string>{"y"});
  EXPECT_EQ(cat(g.value(g.outputs[0]).type()), "f32[N,2]");
  ASSERT_EQ(g.sources->size(), 1u);
  EXPECT_EQ((*g.sources)[0].name, "Add_0");
  EXPECT_EQ(g.node(g.first()).origin, Origin{0});
}

TEST(Importer, ConstantsKeepTheirNode) {
  ModelProto model = addition();
  model.mutable_graph()->clear_initializer();
  NodeProto* c = model.mutable_graph()->add_node();
  c->set_op_type("Constant");
  c->set_name("const");
  c->add_output("w");
  AttributeProto* a = c->add_attribute();
  a->set_name("value_floats");
  a->set_type(AttributeProto::FLOATS);
  a->add_floats(3);
  a->add_floats(4);
  model.mutable_graph()->mutable_node()->SwapElements(0, 1);
  const Graph g = import(model);
  const Value& w = g.value(g.node(g.first()).inputs[1]);
  EXPECT_TRUE(w.is_constant());
  EXPECT_EQ(w.origin, Origin{0});
  EXPECT_EQ(g.names_of(w.origin)[0].name, "const");
  EXPECT_EQ(w.fact.constant->as<float>()[1], 4.0f);
}

TEST(Importer, InitializersAmongInputsAreConstants) {
  ModelProto model = addition();
  add_input(*model.mutable_graph(), "w", {"2"});
  EXPECT_EQ(import(model).inputs.size(), 1u);
}

TEST(Importer, InitializersAmongInputsMayBeFed) {
  ModelProto model = addition();
  ImportOptions options;
  options.fed_initializers = {"w"};
  expect_failure(model, "UsageError", "no input 'w' with an initializer", options);
  add_input(*model.mutable_graph(), "w", {"2"});
  const Graph g = import(model, options);
  ASSERT_EQ(g.inputs.size(), 2u);
  EXPECT_FALSE(g.value(g.inputs[1]).is_constant());
}

TEST(Importer, InitializersOfTheCaller) {
  const ModelProto model = addition();
  const float values[] = {7, 8};
  ImportOptions options;
  options.initializers["w"] = Tensor::of<float>(DType::f32, {2}, values);
  const Graph g = import(model, options);
  const Value& w = g.value(g.node(g.first()).inputs[1]);
  EXPECT_EQ(w.fact.constant->as<float>()[1], 8.0f);
  options.initializers["w"] = Tensor::of<float>(DType::f32, {2, 1}, values);
  expect_failure(model, "UsageError", "is f32[2], given is f32[2,1]", options);
  options.initializers = {{"v", Tensor::scalar(1)}};
  expect_failure(model, "UsageError", "no initializer or input 'v'", options);
}

TEST(Importer, NamedDimensionsMayBeFixed) {
  ModelProto model = model_of();
  GraphProto& g = *model.mutable_graph();
  add_input(g, "x", {"a-b", "c", "a-b"});
  add_node(g, "Relu", {"x"}, {"y"});
  add_output(g, "y");
  ImportOptions options;
  options.dims = {{"a-b", 5}, {"unknown", 7}};
  const Graph graph = import(model, options);
  EXPECT_EQ(graph.value(graph.inputs[0]).type().dims, (std::vector<Dim>{5, Dim::symbol("c"), 5}));
}

TEST(Importer, OddDimensionNamesStayApart) {
  ModelProto model = model_of();
  GraphProto& g = *model.mutable_graph();
  add_input(g, "in/put", {"a-b", "a_b", "", "?", "-1", "12x", "a-b"});
  add_node(g, "Relu", {"in/put"}, {"y"});
  add_output(g, "y");
  const Graph graph = import(model);
  const std::vector<Dim>& d = graph.value(graph.inputs[0]).type().dims;
  EXPECT_EQ(d[0], d[6]);
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(Dim::parse(d[i].text()), d[i]);
    for (size_t j = 0; j < i; ++j) EXPECT_NE(d[i], d[j]);
  }
  EXPECT_EQ(d[2].text(), "?in_put:2");
}

TEST(Importer, InputMayBeOutput) {
  ModelProto model = addition();
  add_output(*model.mutable_graph(), "x");
  EXPECT_EQ(import(model).outputs.size(), 2u);
}

TEST(Importer, EveryFieldFamilyGivesTheSameNumbers) {
  struct Case {
    int type;
    void (*fill)(TensorProto&);
  };
  const Case cases[] = {
      {1, [](TensorProto& t) { t.add_float_data(1), t.add_float_data(2); }},
      {11, [](TensorProto& t) { t.add_double_data(1), t.add_double_data(2); }},
      {7, [](TensorProto& t) { t.add_int64_data(1), t.add_int64_data(2); }},
      {13, [](TensorProto& t) { t.add_uint64_data(1), t.add_uint64_data(2); }},
      {12, [](TensorProto& t) { t.add_uint64_data(1), t.add_uint64_data(2); }},
      {6, [](TensorProto& t) { t.add_int32_data(1), t.add_int32_data(2); }},
      {2, [](TensorProto& t) { t.add_int32_data(1), t.add_int32_data(2); }},
      {10, [](TensorProto& t) { t.add_int32_data(0x3c00), t.add_int32_data(0x4000); }},
      {16, [](TensorProto& t) { t.add_int32_data(0x3f80), t.add_int32_data(0x4000); }},
      {3, [](TensorProto& t) { t.set_raw_data(std::string("\1\2", 2)); }},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.type);
    ModelProto model = model_of();
    GraphProto& g = *model.mutable_graph();
    TensorProto* t = g.add_initializer();
    t->set_name("w");
    t->set_data_type(c.type);
    t->add_dims(2);
    c.fill(*t);
    add_node(g, "Identity", {"w"}, {"y"});
    add_output(g, "y");
    const Graph graph = import(model);
    const Wide wide = widen(*graph.value(graph.node(graph.first()).inputs[0]).fact.constant);
    EXPECT_EQ(wide.at(0), 1);
    EXPECT_EQ(wide.at(1), 2);
    // One element less, one more, and another field beside it.
    t->set_dims(0, 3);
    expect_failure(model, "GraphError", "the model gives");
    t->set_dims(0, 1);
    expect_failure(model, "GraphError", "the model gives");
    t->set_dims(0, 2);
    if (t->has_raw_data()) {
      t->add_float_data(1);
    } else {
      t->set_raw_data("12345678");
    }
    expect_failure(model, "GraphError", "several payloads");
  }
}

TEST(Importer, BoolsAreZeroOrOne) {
  ModelProto model = model_of();
  GraphProto& g = *model.mutable_graph();
  TensorProto* t = g.add_initializer();
  t->set_name("w");
  t->set_data_type(TensorProto::BOOL);
  t->add_dims(3);
  t->set_raw_data(std::string("\0\1\377", 3));
  add_node(g, "Not", {"w"}, {"y"});
  add_output(g, "y");
  const Graph graph = import(model);
  const Tensor& w = *graph.value(graph.node(graph.first()).inputs[0]).fact.constant;
  EXPECT_EQ(w.data()[2], std::byte{1});
}

TEST(Importer, SparseBecomesDense) {
  ModelProto model = addition();
  GraphProto& g = *model.mutable_graph();
  g.clear_initializer();
  auto* sparse = g.add_sparse_initializer();
  sparse->add_dims(1);
  sparse->add_dims(2);
  TensorProto* values = sparse->mutable_values();
  values->set_name("w");
  values->set_data_type(1);
  values->add_dims(1);
  values->add_float_data(5);
  TensorProto* indices = sparse->mutable_indices();
  indices->set_data_type(7);
  indices->add_dims(1);
  indices->add_int64_data(1);
  const Graph graph = import(model);
  const Tensor& w = *graph.value(graph.node(graph.first()).inputs[1]).fact.constant;
  EXPECT_EQ(w.as<float>()[0], 0.0f);
  EXPECT_EQ(w.as<float>()[1], 5.0f);
  for (const int64_t bad : {int64_t{2}, int64_t{-1}, INT64_MIN}) {
    indices->set_int64_data(0, bad);
    expect_failure(model, "GraphError", "sparse indices");
  }
}

TEST(Importer, FunctionsAreInlined) {
  ModelProto model = model_of();
  auto* import_domain = model.add_opset_import();
  import_domain->set_domain("my");
  import_domain->set_version(1);
  auto* f = model.add_functions();
  f->set_domain("my");
  f->set_name("LeakyTwice");
  f->add_input("a");
  f->add_output("b");
  f->add_attribute("slope");
  f->add_opset_import()->set_version(17);
  for (const auto& [in, out] : {std::pair("a", "t"), std::pair("t", "b")}) {
    NodeProto* node = f->add_node();
    node->set_op_type("LeakyRelu");
    node->add_input(in);
    node->add_output(out);
    AttributeProto* a = node->add_attribute();
    a->set_name("alpha");
    a->set_ref_attr_name("slope");
    a->set_type(AttributeProto::FLOAT);
  }
  GraphProto& g = *model.mutable_graph();
  add_input(g, "x", {"2"});
  NodeProto* call = add_node(g, "LeakyTwice", {"x"}, {"y"});
  call->set_domain("my");
  call->set_name("call");
  set_float(call, "slope", 0.5f);
  add_output(g, "y");
  const Graph graph = import(model);
  EXPECT_EQ(body(graph),
            "  %call/t = LeakyRelu(%x) {\"alpha\":0.5}\n"
            "  %y = LeakyRelu(%call/t) {\"alpha\":0.5}\n"
            "  return %y\n}\n");
  EXPECT_EQ(origin_text(graph, graph.node(graph.first()).origin), "call + call/LeakyRelu_1");
  // A function that calls itself.
  NodeProto* again = f->add_node();
  again->set_op_type("LeakyTwice");
  again->set_domain("my");
  expect_failure(model, "GraphError", "calls itself");
}

TEST(Importer, CallsThatDoubleAreRefusedBeforeTheyAreInlined) {
  ModelProto model = addition();
  model.add_opset_import()->set_domain("my");
  model.mutable_opset_import(1)->set_version(1);
  constexpr int kLevels = 40;
  for (int i = 0; i < kLevels; ++i) {
    auto* f = model.add_functions();
    f->set_domain("my");
    f->set_name(cat("f", i));
    f->add_input("a");
    f->add_output("c");
    f->add_opset_import()->set_version(17);
    for (const auto& [in, out] : {std::pair("a", "b"), std::pair("b", "c")}) {
      NodeProto* node = f->add_node();
      node->set_op_type(i == 0 ? "Relu" : cat("f", i - 1));
      node->set_domain(i == 0 ? "" : "my");
      node->add_input(in);
      node->add_output(out);
    }
  }
  NodeProto* call = add_node(*model.mutable_graph(), cat("f", kLevels - 1), {"y"}, {"z"});
  call->set_domain("my");
  expect_failure(model, "LimitError", "nodes");
}

// --- opset adapters ----------------------------------------------------------------------------

std::string adapted(int64_t opset, const std::string& op, const std::vector<std::string>& dims,
                    const std::function<void(NodeProto*)>& attributes, int outputs = 1) {
  ModelProto model = model_of(opset);
  GraphProto& g = *model.mutable_graph();
  add_input(g, "x", dims);
  std::vector<std::string> out;
  for (int i = 0; i < outputs; ++i) out.push_back(cat("y", i));
  attributes(add_node(g, op, {"x"}, out));
  for (const std::string& name : out) add_output(g, name);
  return body(import(model));
}

TEST(Adapters, AxesBecomeAnInput) {
  EXPECT_EQ(adapted(11, "Unsqueeze", {"N"}, [](NodeProto* n) { set_ints(n, "axes", {1}); }),
            "  %0 = const s64[1] [1]\n  %y0 = Unsqueeze(%x, %0)\n  return %y0\n}\n");
  EXPECT_EQ(adapted(11, "Squeeze", {"N", "1"}, [](NodeProto*) {}),
            "  %y0 = Squeeze(%x)\n  return %y0\n}\n");
  for (const char* op : {"ReduceMean", "ReduceMax", "ReduceL2", "ReduceSumSquare"}) {
    const std::string text =
        adapted(17, op, {"N", "4"}, [](NodeProto* n) { set_ints(n, "axes", {-1}); });
    EXPECT_NE(text.find(cat(op, "(%x, %0)")), std::string::npos) << text;
  }
}

TEST(Adapters, SoftmaxOfOldCoversTheTrailingAxes) {
  EXPECT_EQ(adapted(11, "Softmax", {"N", "4"}, [](NodeProto*) {}),
            "  %y0 = Softmax(%x) {\"axis\":-1}\n  return %y0\n}\n");
  EXPECT_EQ(adapted(11, "Softmax", {"N", "3", "4"}, [](NodeProto*) {}),
            "  %0 = Flatten(%x) {\"axis\":1}\n"
            "  %1 = Softmax(%0) {\"axis\":1}\n"
            "  %2 = Shape(%x) {\"end\":9223372036854775807,\"start\":0}\n"
            "  %y0 = Reshape(%1, %2) {\"allowzero\":1}\n"
            "  return %y0\n}\n");
  EXPECT_EQ(adapted(13, "Softmax", {"N", "3", "4"}, [](NodeProto* n) { set_int(n, "axis", 1); }),
            "  %y0 = Softmax(%x) {\"axis\":1}\n  return %y0\n}\n");
}

TEST(Adapters, AttributesBecomeInputs) {
  EXPECT_EQ(adapted(10, "Clip", {"N"}, [](NodeProto* n) { set_float(n, "max", 6); }),
            "  %y0 = Clip(%x, none, 6)\n  return %y0\n}\n");
  const std::string slice = adapted(9, "Slice", {"N", "8"}, [](NodeProto* n) {
    set_ints(n, "starts", {1});
    set_ints(n, "ends", {5});
    set_ints(n, "axes", {1});
  });
  EXPECT_NE(slice.find("Slice(%x, %0, %1, %2)"), std::string::npos) << slice;
  const std::string pad = adapted(10, "Pad", {"N"}, [](NodeProto* n) {
    set_ints(n, "pads", {1, 2});
  });
  EXPECT_NE(pad.find("Pad(%x, %0, 0)"), std::string::npos) << pad;
  const std::string dropout =
      adapted(11, "Dropout", {"N"}, [](NodeProto* n) { set_float(n, "ratio", 0.25f); });
  EXPECT_NE(dropout.find("Dropout(%x, 0.25)"), std::string::npos) << dropout;
  const std::string top = adapted(
      9, "TopK", {"8"}, [](NodeProto* n) { set_int(n, "k", 3); }, 2);
  EXPECT_NE(top.find("TopK(%x, %0)"), std::string::npos) << top;
}

TEST(Adapters, Split) {
  const std::string given = adapted(
      11, "Split", {"6"},
      [](NodeProto* n) {
        set_ints(n, "split", {2, 4});
      },
      2);
  EXPECT_NE(given.find("Split(%x, %0)"), std::string::npos) << given;
  const std::string equal = adapted(
      13, "Split", {"6"}, [](NodeProto*) {}, 3);
  EXPECT_NE(equal.find("\"num_outputs\":3"), std::string::npos) << equal;
}

// The second operand is %w, f32[3].
std::string broadcast_in_opset_6(const std::vector<std::string>& dims, int64_t axis) {
  ModelProto model = model_of(6);
  GraphProto& g = *model.mutable_graph();
  add_input(g, "x", dims);
  add_input(g, "w", {"3"});
  NodeProto* node = add_node(g, "Add", {"x", "w"}, {"y"});
  set_int(node, "broadcast", 1);
  if (axis >= 0) set_int(node, "axis", axis);
  add_output(g, "y");
  return body(import(model));
}

TEST(Adapters, BroadcastWasAnAttribute) {
  EXPECT_EQ(broadcast_in_opset_6({"N", "3"}, -1), "  %y = Add(%x, %w)\n  return %y\n}\n");
  EXPECT_EQ(broadcast_in_opset_6({"N", "3"}, 1), "  %y = Add(%x, %w)\n  return %y\n}\n");
  EXPECT_EQ(broadcast_in_opset_6({"N", "3", "4", "5"}, 1),
            "  %0 = const s64[2] [1,2]\n"
            "  %1 = Unsqueeze(%w, %0)\n"
            "  %y = Add(%x, %1)\n  return %y\n}\n");
}

TEST(Adapters, TheOldestOpsets) {
  const auto type = [](NodeProto* n) {
    AttributeProto* a = n->add_attribute();
    a->set_name("to");
    a->set_type(AttributeProto::STRING);
    a->set_s("INT64");
  };
  EXPECT_NE(adapted(5, "Cast", {"N"}, type).find("\"to\":7"), std::string::npos);
  const auto shape = [](NodeProto* n) { set_ints(n, "shape", {2, -1}); };
  EXPECT_NE(adapted(4, "Reshape", {"8"}, shape).find("Reshape(%x, %0)"), std::string::npos);
  const auto memory = [](NodeProto* n) { set_ints(n, "consumed_inputs", {0}); };
  EXPECT_NE(adapted(1, "Relu", {"N"}, memory).find("Relu(%x)"), std::string::npos);
}

TEST(Adapters, ConstantOfShape) {
  ModelProto model = model_of();
  GraphProto& g = *model.mutable_graph();
  add_input(g, "x", {"2"}, TensorProto::INT64);
  NodeProto* node = add_node(g, "ConstantOfShape", {"x"}, {"y"});
  AttributeProto* a = node->add_attribute();
  a->set_name("value");
  a->set_type(AttributeProto::TENSOR);
  a->mutable_t()->set_data_type(TensorProto::INT64);
  a->mutable_t()->add_dims(1);
  a->mutable_t()->add_int64_data(7);
  add_output(g, "y");
  EXPECT_NE(body(import(model)).find("{\"dtype\":7,\"value\":7.0}"), std::string::npos);
  a->mutable_t()->set_int64_data(0, INT64_MAX);  // a double would round it
  EXPECT_NE(body(import(model)).find("Expand"), std::string::npos);
}

TEST(Adapters, UnknownAttributesAreErrors) {
  ModelProto model = addition();
  set_ints(model.mutable_graph()->mutable_node(0), "axes", {1});
  expect_failure(model, "GraphError", "Add has no attribute axes");
}

// --- what is refused ----------------------------------------------------------------------------

TEST(Refusals, Opsets) {
  for (const int64_t bad : {int64_t{0}, int64_t{-1}, INT64_MIN}) {
    ModelProto model = addition();
    model.mutable_opset_import(0)->set_version(bad);
    expect_failure(model, "GraphError", "does not exist");
  }
  for (const int64_t bad : {kNewestOpset + 1, int64_t{1} << 31}) {
    ModelProto model = addition();
    model.mutable_opset_import(0)->set_version(bad);
    expect_failure(model, "VersionError", cat("opset ", bad));
  }
  ModelProto model = addition();
  model.clear_opset_import();
  expect_failure(model, "GraphError", "opset_import");
  model = addition();
  model.set_ir_version(99);  // fine as long as every op is known
  EXPECT_EQ(failure(model), "");
}

TEST(Refusals, AllMissingOpsAreListed) {
  ModelProto model = addition();
  GraphProto& g = *model.mutable_graph();
  model.add_opset_import()->set_domain("com.microsoft");
  model.mutable_opset_import(1)->set_version(1);
  add_node(g, "Frobnicate", {"y"}, {"a"})->set_name("first");
  add_node(g, "Frobnicate", {"a"}, {"b"});
  add_node(g, "FusedThing", {"b"}, {"c"})->set_domain("com.microsoft");
  NodeProto* outer = add_node(g, "Relu", {"c"}, {"d"});
  AttributeProto* a = outer->add_attribute();
  a->set_name("then_branch");
  a->set_type(AttributeProto::GRAPH);
  add_node(*a->mutable_g(), "Hidden", {}, {"h"});
  try {
    import(model);
    FAIL();
  } catch (const UnsupportedError& e) {
    ASSERT_EQ(e.fields.items.size(), 3u);
    EXPECT_EQ(e.fields.items[0], "Frobnicate (2 nodes, first 'first')");
    EXPECT_NE(e.fields.items[2].find("com.microsoft.FusedThing"), std::string::npos);
    for (const std::string& item : e.fields.items) {
      EXPECT_NE(std::string(e.what()).find(item), std::string::npos);
    }
  }
  // Our own ops are not open to models.
  ModelProto own = addition();
  own.add_opset_import()->set_domain("planck");
  own.mutable_opset_import(1)->set_version(1);
  own.mutable_graph()->mutable_node(0)->set_domain("planck");
  own.mutable_graph()->mutable_node(0)->set_op_type("View");
  expect_failure(own, "UnsupportedError", "planck.View");
  own.mutable_graph()->mutable_node(0)->set_domain("");
  own.mutable_graph()->mutable_node(0)->set_op_type("planck.View");
  expect_failure(own, "UnsupportedError", "planck.View");
}

TEST(Refusals, ErrorsKnowTheirNode) {
  ModelProto model = addition();
  model.mutable_graph()->mutable_node(0)->set_name("sum");
  model.mutable_graph()->mutable_initializer(0)->set_dims(0, 2);
  add_node(*model.mutable_graph(), "Transpose", {"y"}, {"z"})->set_name("turn");
  set_ints(model.mutable_graph()->mutable_node(1), "perm", {0, 5});
  try {
    import(model);
    FAIL();
  } catch (const GraphError& e) {
    EXPECT_EQ(e.fields.node, "turn");
    EXPECT_EQ(e.fields.op_type, "Transpose");
    EXPECT_NE(std::string(e.what()).find("in node turn (Transpose)"), std::string::npos);
  }
}

TEST(Refusals, Structure) {
  ModelProto model = addition();
  add_node(*model.mutable_graph(), "Relu", {"x"}, {"y"});
  expect_failure(model, "GraphError", "defined twice");
  model = addition();
  add_output(*model.mutable_graph(), "y");
  expect_failure(model, "GraphError", "listed twice");
  model = addition();
  add_output(*model.mutable_graph(), "nobody");
  expect_failure(model, "GraphError", "nothing produces");
  model = addition();
  model.mutable_graph()->mutable_node(0)->set_input(1, "late");
  add_node(*model.mutable_graph(), "Relu", {"y"}, {"late"});  // and a cycle
  expect_failure(model, "GraphError", "before it is produced");
  model = addition();
  model.mutable_graph()->mutable_node(0)->set_input(1, "");
  expect_failure(model, "GraphError", "2 inputs");
  model = addition();
  model.clear_graph();
  expect_failure(model, "GraphError", "no graph");
  model = addition();
  model.mutable_graph()->clear_output();
  expect_failure(model, "GraphError", "no outputs");
  model = addition();
  model.mutable_graph()->mutable_output(0)->mutable_type()->mutable_tensor_type()->set_elem_type(7);
  expect_failure(model, "GraphError", "declared as type 7");
  model = addition();
  model.mutable_graph()->mutable_output(0)->mutable_type()->mutable_tensor_type()->set_elem_type(1);
  model.mutable_graph()
      ->mutable_output(0)
      ->mutable_type()
      ->mutable_tensor_type()
      ->mutable_shape()
      ->add_dim()
      ->set_dim_value(77);  // a stale shape is not believed
  EXPECT_EQ(failure(model), "");
}

TEST(Refusals, ShapesAndTypes) {
  ModelProto model = addition();
  TensorProto* w = model.mutable_graph()->mutable_initializer(0);
  w->set_dims(0, -2);
  expect_failure(model, "GraphError", "negative");
  w->set_dims(0, 0);
  expect_failure(model, "GraphError", "the model gives 2");
  w->set_dims(0, INT64_MAX);
  w->add_dims(INT64_MAX);
  expect_failure(model, "GraphError", "64 bits");
  w->clear_dims();
  for (int i = 0; i < 1025; ++i) w->add_dims(1);
  expect_failure(model, "LimitError", "rank");
  model = addition();
  w = model.mutable_graph()->mutable_initializer(0);
  for (const int bad : {0, 77, -1}) {
    w->set_data_type(bad);
    expect_failure(model, "GraphError", "is not an element type");
  }
  w->set_data_type(TensorProto::INT4);
  expect_failure(model, "GraphError", "cannot be stored in float_data");
  w->clear_float_data();
  w->set_raw_data("a");
  w->set_data_type(TensorProto::INT2);
  expect_failure(model, "UnsupportedError", "INT2");
  w->set_data_type(TensorProto::FLOAT);
  w->set_raw_data("abcdefg");
  expect_failure(model, "GraphError", "8 bytes of raw_data");
  w->clear_raw_data();
  w->set_data_type(TensorProto::UINT8);
  w->add_int32_data(1);
  w->add_int32_data(256);
  expect_failure(model, "GraphError", "does not fit UINT8");
  model = addition();
  model.mutable_graph()
      ->mutable_input(0)
      ->mutable_type()
      ->mutable_tensor_type()
      ->mutable_shape()
      ->mutable_dim(0)
      ->set_dim_value(-2);
  expect_failure(model, "GraphError", "has the extent -2");
}

TEST(Refusals, Attributes) {
  ModelProto model = model_of();
  GraphProto& g = *model.mutable_graph();
  add_input(g, "x", {"2", "3"});
  NodeProto* node = add_node(g, "Softmax", {"x"}, {"y"});
  add_output(g, "y");
  set_float(node, "axis", 1);
  expect_failure(model, "GraphError", "not an integer");
  node->clear_attribute();
  set_int(node, "axis", 1);
  set_int(node, "axis", 1);
  expect_failure(model, "GraphError", "twice");
  node->clear_attribute();
  set_int(node, "axis", 1);
  node->mutable_attribute(0)->set_f(1);
  expect_failure(model, "GraphError", "several values");
  node->clear_attribute();
  set_int(node, "axis", 1);
  node->mutable_attribute(0)->set_type(AttributeProto::TENSOR);
  expect_failure(model, "GraphError", "says type");
  node->clear_attribute();
  node->add_attribute()->set_name("axis");
  node->mutable_attribute(0)->set_type(AttributeProto::TENSOR);
  node->mutable_attribute(0)->mutable_t()->set_data_type(7);
  node->mutable_attribute(0)->mutable_t()->add_int64_data(1);
  expect_failure(model, "GraphError", "no tensor attribute axis");
  node->mutable_attribute(0)->Clear();
  node->mutable_attribute(0)->set_name("axis");
  node->mutable_attribute(0)->set_type(AttributeProto::GRAPH);
  expect_failure(model, "GraphError", "no graph attribute axis");
  node->mutable_attribute(0)->set_type(AttributeProto::STRING);
  node->mutable_attribute(0)->set_s("\xff\xfe");
  expect_failure(model, "GraphError", "not UTF-8");
  node->mutable_attribute(0)->set_ref_attr_name("axis");
  expect_failure(model, "GraphError", "refers to a function");
}

// --- bytes ---------------------------------------------------------------------------------------

TEST(Bytes, NoModelAtAll) {
  expect_failure(std::string(), "ParseError", "empty");
  expect_failure(std::string("\xff"), "ParseError", "");
  expect_failure(std::string("this is some text, not a model"), "ParseError", "");
  expect_failure(std::string("\x3a\xff\xff\xff\xff\x7f", 6), "ParseError", "cut off");
  // ir_version as bytes: another wire type.
  expect_failure(std::string("\x0a\x01\x01", 3), "ParseError", "wire type");
  EXPECT_NE(failure(std::string(1000, '\x0b')).find("ParseError"), std::string::npos);  // groups
}

TEST(Bytes, UnknownFieldsAreSkipped) {
  std::string bytes = addition().SerializeAsString();
  for (int i = 0; i < 1'000'000; ++i) bytes += "\xe2\x3f\x01x";  // field 1020
  EXPECT_EQ(failure(bytes), "");
}

TEST(Bytes, EmptyEntriesByTheMillionAreRefused) {
  std::string inside;
  for (int i = 0; i < 3'000'000; ++i) inside.append("\x62\x00", 2);  // GraphProto.output
  std::string bytes = "\x3a";
  for (size_t n = inside.size(); n > 0; n >>= 7) {
    bytes += static_cast<char>((n & 0x7f) | (n > 0x7f ? 0x80 : 0));
  }
  bytes += inside;
  expect_failure(bytes, "LimitError", "parse_bytes", {Limits::tight(), ""});
}

TEST(Bytes, NamesAreChecked) {
  ModelProto model = addition();
  model.mutable_graph()->mutable_node(0)->set_name(std::string(10'000'000, 'a'));
  expect_failure(model, "LimitError", "name_bytes");
  model.mutable_graph()->mutable_node(0)->set_name(std::string("a\0b", 3));
  expect_failure(model, "GraphError", "NUL");
  for (const char* bad : {"\xff", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82"}) {
    model.mutable_graph()->mutable_node(0)->set_name(bad);
    expect_failure(model, "GraphError", "UTF-8");
  }
  model.mutable_graph()->mutable_node(0)->set_name("größer ≥ 𝄞");
  EXPECT_EQ(failure(model), "");
}

TEST(Bytes, SegmentsCannotBeForged) {
  ModelProto model = addition();
  TensorProto* w = model.mutable_graph()->mutable_initializer(0);
  w->clear_float_data();
  w->mutable_segment()->set_begin(0);
  w->mutable_segment()->set_end(8);
  expect_failure(model, "ParseError", "segment");
}

TEST(Bytes, NestedGraphsAreLimited) {
  // Graph in attribute in node, built from the inside and back to front: protobuf itself would
  // recurse, and putting each layer before the last would take quadratic time.
  std::string bytes;
  const auto wrap = [&](char tag) {
    std::string head(1, tag);
    for (size_t n = bytes.size();; n >>= 7) {
      head += static_cast<char>((n & 0x7f) | (n > 0x7f ? 0x80 : 0));
      if (n <= 0x7f) break;
    }
    bytes.append(head.rbegin(), head.rend());
  };
  for (int i = 0; i < 10'000; ++i) {
    wrap('\x32');  // AttributeProto.g
    wrap('\x2a');  // NodeProto.attribute
    wrap('\x0a');  // GraphProto.node
  }
  wrap('\x3a');
  std::ranges::reverse(bytes);
  expect_failure(bytes, "LimitError", "subgraph_depth");
}

class Damage : public testing::Test {
 protected:
  // A typed error or a graph, in less than a second.
  static void expect_contained(const std::string& bytes) {
    const auto start = std::chrono::steady_clock::now();
    const std::string text = failure(bytes);
    EXPECT_FALSE(text.starts_with("InternalError")) << text;
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    EXPECT_LT(took.count(), 1.0) << text;
  }

  // Several ops, attributes, adapters, a function, a large payload.
  static std::string sample() {
    ModelProto model = model_of(11);
    GraphProto& g = *model.mutable_graph();
    add_input(g, "x", {"N", "3", "16"});
    TensorProto* w = g.add_initializer();
    w->set_name("w");
    w->set_data_type(1);
    w->add_dims(16);
    w->add_dims(20);
    w->set_raw_data(std::string(16 * 20 * 4, '\1'));
    add_floats(g, "b", {20}, std::vector<float>(20, 1.0f));
    add_node(g, "MatMul", {"x", "w"}, {"xw"});
    add_node(g, "Add", {"xw", "b"}, {"h"});
    add_node(g, "Softmax", {"h"}, {"s"});
    set_ints(add_node(g, "ReduceMean", {"s"}, {"m"}), "axes", {-1});
    set_ints(add_node(g, "Unsqueeze", {"m"}, {"u"}), "axes", {0});
    set_ints(add_node(g, "Transpose", {"u"}, {"y"}), "perm", {0, 2, 1, 3});
    add_output(g, "y");
    return model.SerializeAsString();
  }
};

TEST_F(Damage, CutAtEveryByte) {
  const std::string whole = sample();
  ASSERT_EQ(failure(whole), "");
  for (size_t n = 0; n < whole.size(); ++n) expect_contained(whole.substr(0, n));
}

TEST_F(Damage, EveryByteChanged) {
  const std::string whole = sample();
  std::mt19937 random(20240601);
  for (int round = 0; round < 1000; ++round) {
    std::string bytes = whole;
    for (int k = std::uniform_int_distribution(1, 4)(random); k > 0; --k) {
      const size_t at = std::uniform_int_distribution<size_t>(0, bytes.size() - 1)(random);
      bytes[at] = static_cast<char>(std::uniform_int_distribution(0, 255)(random));
    }
    SCOPED_TRACE(round);
    expect_contained(bytes);
  }
}

// --- files and external data ---------------------------------------------------------------------

class Files : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "planck_importer_XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    folder_ = root_ / "model";
    fs::create_directory(folder_);
    std::vector<float> values(2048);
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
    payload_.assign(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
    write(folder_ / "w.data", payload_);
  }
  void TearDown() override { fs::remove_all(root_); }

  static void write(const fs::path& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
  }

  using Entries = std::vector<std::pair<std::string, std::string>>;

  static TensorProto* add_external(GraphProto& g, const std::string& name, const Entries& entries) {
    TensorProto* w = g.add_initializer();
    w->set_name(name);
    w->set_data_type(1);
    w->add_dims(2);
    w->set_data_location(TensorProto::EXTERNAL);
    for (const auto& [key, value] : entries) {
      auto* entry = w->add_external_data();
      entry->set_key(key);
      entry->set_value(value);
    }
    return w;
  }

  Graph load(const Entries& entries, const Entries& second = {}) {
    ModelProto model = addition();
    GraphProto& g = *model.mutable_graph();
    g.clear_initializer();
    add_external(g, "w", entries);
    if (!second.empty()) {
      add_external(g, "v", second);
      add_node(g, "Add", {"y", "v"}, {"z"});
      add_output(g, "z");
    }
    const fs::path path = folder_ / "m.onnx";
    write(path, model.SerializeAsString());
    return import_file(path.string(), builtin_ops());
  }

  std::string refused(const Entries& entries, const Entries& second = {}) {
    try {
      load(entries, second);
    } catch (const ExternalDataError& e) {
      return e.what();
    } catch (const Error& e) {
      return cat("wrong class ", e.kind(), ": ", e.what());
    }
    return "imported";
  }
  void expect_refused(const Entries& entries, const std::string& part, const Entries& second = {}) {
    const std::string text = refused(entries, second);
    EXPECT_TRUE(text.find(part) != std::string::npos && !text.starts_with("wrong")) << text;
  }

  static float first_of(const Graph& g) {
    return g.value(g.node(g.first()).inputs[1]).fact.constant->as<float>()[0];
  }

  fs::path root_, folder_;
  std::string payload_;
};

TEST_F(Files, MissingAndSpecial) {
  EXPECT_THROW(import_file((root_ / "none.onnx").string(), builtin_ops()), FileError);
  EXPECT_THROW(import_file(folder_.string(), builtin_ops()), FileError);
  const fs::path fifo = root_ / "fifo.onnx";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_THROW(import_file(fifo.string(), builtin_ops()), FileError);
}

// Weights are the file's own pages where alignment allows, copies where it does not.
TEST_F(Files, PayloadsAreRightMappedOrCopied) {
  for (int shift = 0; shift < 8; ++shift) {
    ModelProto model = model_of();
    GraphProto& g = *model.mutable_graph();
    g.set_name(std::string(static_cast<size_t>(shift), 'n'));
    TensorProto* w = g.add_initializer();
    w->set_name("w");
    w->set_data_type(1);
    w->add_dims(2048);
    w->set_raw_data(payload_);
    add_node(g, "Relu", {"w"}, {"y"});
    add_output(g, "y");
    const fs::path path = folder_ / "m.onnx";
    write(path, model.SerializeAsString());
    const Graph mapped = import_file(path.string(), builtin_ops());
    const Graph copied = import(model);
    for (const Graph* graph : {&mapped, &copied}) {
      const Tensor& t = *graph->value(graph->node(graph->first()).inputs[0]).fact.constant;
      EXPECT_EQ(reinterpret_cast<uintptr_t>(t.data()) % 4, 0u);
      EXPECT_EQ(std::memcmp(t.data(), payload_.data(), payload_.size()), 0);
    }
  }
}

TEST_F(Files, ExternalDataIsRead) {
  EXPECT_EQ(first_of(load({{"location", "w.data"}, {"offset", "8"}, {"length", "8"}})), 2.0f);
  EXPECT_EQ(first_of(load({{"location", "./w.data"}, {"length", "8"}})), 0.0f);
  // Without a length it is the rest of the file.
  EXPECT_EQ(first_of(load({{"location", "w.data"}, {"offset", cat(payload_.size() - 8)}})),
            2046.0f);
  const std::string digest = importer::sha1(std::as_bytes(std::span(payload_)));
  EXPECT_EQ(first_of(load({{"location", "w.data"}, {"length", "8"}, {"checksum", digest}})), 0.0f);
  fs::create_directory(folder_ / "sub");
  write(folder_ / "sub" / "v.data", payload_);
  EXPECT_EQ(first_of(load({{"location", "sub/v.data"}, {"offset", "4"}, {"length", "8"}})), 1.0f);
  // A file that others can write is copied, not mapped: it may shrink afterwards.
  fs::permissions(folder_ / "w.data", fs::perms::others_write, fs::perm_options::add);
  const Graph g = load({{"location", "w.data"}, {"offset", "8"}, {"length", "8"}});
  fs::resize_file(folder_ / "w.data", 0);
  EXPECT_EQ(first_of(g), 2.0f);
}

TEST_F(Files, PathsCannotLeaveTheFolder) {
  write(root_ / "secret", payload_);
  const std::pair<std::string, std::string> cases[] = {
      {"", "no name"},
      {".", "names a folder"},
      {"./", "names a folder"},
      {"w.data/", "names a folder"},
      {"../secret", "leaves the model's folder"},
      {"sub/../../secret", "leaves the model's folder"},
      {(root_ / "secret").string(), "absolute"},
      {"/etc/passwd", "absolute"},
      {"C:secret", "drive"},
      {"\\\\server\\share", "backslash"},
      {std::string("w.data\0.txt", 11), "NUL"},
      {"*/_ORT_MEM_ADDR_/*", "private marker"},
      {"nobody", "cannot be opened"},
      {std::string(5000, 'a'), "cannot be opened"},
  };
  for (const auto& [location, part] : cases) {
    expect_refused({{"location", location}, {"length", "8"}}, part);
  }
  expect_refused({{"length", "8"}}, "no name");
}

TEST_F(Files, OnlyPlainFiles) {
  write(root_ / "secret", payload_);
  fs::create_directory(root_ / "outside");
  write(root_ / "outside" / "w", payload_);
  fs::create_symlink(root_ / "secret", folder_ / "link");
  fs::create_symlink("w.data", folder_ / "inner_link");
  fs::create_directory_symlink(root_ / "outside", folder_ / "parent_link");
  fs::create_hard_link(root_ / "secret", folder_ / "hard");
  ASSERT_EQ(mkfifo((folder_ / "fifo").c_str(), 0600), 0);
  fs::create_directory(folder_ / "directory");
  const std::pair<std::string, std::string> cases[] = {
      {"link", "symbolic link"},      {"inner_link", "symbolic link"},
      {"parent_link/w", ""},          {"hard", "hard links"},
      {"fifo", "not a regular file"}, {"directory", "not a regular file"},
  };
  for (const auto& [location, part] : cases) {
    expect_refused({{"location", location}, {"length", "8"}}, part);
  }
  // Both ways of opening agree.
  const Handle folder(open(folder_.c_str(), O_PATH | O_DIRECTORY));
  for (const auto how : {importer::OpenBy::kernel, importer::OpenBy::components}) {
    for (const auto& [location, part] : cases) {
      EXPECT_THROW(importer::open_beneath(folder, location, how), ExternalDataError) << location;
    }
    EXPECT_TRUE(importer::open_beneath(folder, "w.data", how).first);
  }
}

TEST_F(Files, RangesAreChecked) {
  const std::string size = cat(payload_.size());
  const auto entries = [](const std::string& offset, const std::string& length) {
    return Entries{{"location", "w.data"}, {"offset", offset}, {"length", length}};
  };
  expect_refused(entries("-8", "8"), "no decimal number");
  expect_refused(entries("0", "-8"), "no decimal number");
  expect_refused(entries("0x8", "8"), "no decimal number");
  expect_refused(entries(" 8", "8"), "no decimal number");
  expect_refused(entries("", "8"), "no decimal number");
  expect_refused(entries("99999999999999999999", "8"), "no decimal number");
  expect_refused(entries(size, "8"), "are asked for");
  expect_refused(entries("9223372036854775807", "8"), "the offset is");
  expect_refused(entries("0", "1125899906842624"), "are asked for");
  expect_refused(entries("0", "4"), "4 bytes to a tensor of 8");
  expect_refused({{"location", "w.data"}}, "bytes to a tensor of 8");
  expect_refused(entries("0", "8"), "overlaps", entries("4", "8"));
  expect_refused(entries("4", "8"), "overlaps", entries("0", "8"));
  expect_refused(entries("0", "8"), "overlaps",
                 {{"location", "./w.data"}, {"offset", "0"}, {"length", "8"}});
  EXPECT_EQ(refused(entries("0", "8"), entries("8", "8")), "imported");
}

TEST_F(Files, KeysAreAnAllowList) {
  for (const char* key : {"__class__", "basepath", "Offset", ""}) {
    expect_refused({{"location", "w.data"}, {"length", "8"}, {key, "1"}}, "unknown key");
  }
  expect_refused({{"location", "w.data"}, {"length", "8"}, {"length", "8"}}, "twice");
  expect_refused({{"location", "w.data"}, {"length", "8"}, {"checksum", std::string(40, '0')}},
                 "SHA-1");
}

TEST_F(Files, BytesHaveNoFolder) {
  ModelProto model = addition();
  GraphProto& g = *model.mutable_graph();
  g.clear_initializer();
  add_external(g, "w", {{"location", "w.data"}, {"length", "8"}});
  expect_failure(model, "ExternalDataError", "has no folder");
  ImportOptions options;
  options.external_data_dir = folder_.string();
  EXPECT_EQ(failure(model, options), "");
}

TEST(Sha1, KnownDigests) {
  const auto of = [](const std::string& s) { return importer::sha1(std::as_bytes(std::span(s))); };
  EXPECT_EQ(of("abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
  EXPECT_EQ(of(""), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
  EXPECT_EQ(of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
}

}  // namespace
}  // namespace planck
