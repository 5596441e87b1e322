// The text form of a graph: what goldens compare and what a person reads.
#include <algorithm>
#include <cctype>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "ir/graph.h"

namespace planck {
namespace {

constexpr int64_t kListed = 16;  // longer constants are spelled by a recipe or a digest

uint64_t fnv1a(const std::byte* data, int64_t size) {
  uint64_t hash = 14695981039346656037ull;
  for (int64_t i = 0; i < size; ++i) {
    hash = (hash ^ static_cast<uint8_t>(data[i])) * 1099511628211ull;
  }
  return hash;
}

std::string number(double value, DType t = DType::f32) {
  std::ostringstream out;
  out.precision(t == DType::f64 ? 17 : 9);  // enough to read the same bits back
  out << value;
  return out.str();
}

std::string element(const Wide& wide, int64_t i) {
  return wide.floating() ? number(wide.real[static_cast<size_t>(i)], wide.dtype)
                         : cat(wide.integer[static_cast<size_t>(i)]);
}

bool is_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
         std::string_view("._-+/").find(c) != std::string_view::npos;
}
bool is_number(std::string_view s) {
  return std::ranges::all_of(s, [](unsigned char c) { return std::isdigit(c) != 0; });
}
// A name that reads as a number or holds other characters stands in quotes.
std::string spelled(const std::string& name) {
  const bool plain = std::ranges::all_of(name, is_word) && !is_number(name) && name != "none";
  return plain ? name : Json(name).dump(-1, ' ', true, Json::error_handler_t::replace);
}

std::string digest(const void* data, size_t bytes) {
  std::ostringstream out;
  out << "opaque(" << std::hex
      << fnv1a(static_cast<const std::byte*>(data), static_cast<int64_t>(bytes)) << ')';
  return out.str();
}

std::string contents(const Value& v) {
  if (!v.recipe.empty()) return v.recipe;
  const Tensor& t = *v.fact.constant;
  if (t.count() > kListed) {
    return digest(t.data(), static_cast<size_t>(t.bytes()));
  }
  const Wide wide = widen(t);
  std::vector<std::string> items;
  for (int64_t i = 0; i < t.count(); ++i) items.push_back(element(wide, i));
  return cat('[', joined(items, ","), ']');
}

std::string list(const auto& numbers) {
  std::vector<std::string> items;
  for (const auto& n : numbers) {
    items.push_back(number(static_cast<double>(n)));
  }
  return cat('[', joined(items, ","), ']');
}

std::string grid(const QParams& q) {
  std::string out = cat(" quant(", q.dtype);
  if (q.axis >= 0) out += cat(", axis ", q.axis);
  if (q.block > 0) out += cat(", block ", q.block);
  const bool listed = q.scale.size() <= static_cast<size_t>(kListed);
  out += ", scale ";
  out += listed ? list(q.scale) : digest(q.scale.data(), q.scale.size() * sizeof(float));
  if (std::ranges::any_of(q.zero_point, [](int32_t z) { return z != 0; })) {
    out += ", zero ";
    out += listed ? list(q.zero_point)
                  : digest(q.zero_point.data(), q.zero_point.size() * sizeof(int32_t));
  }
  return out + ")";
}

class Printer {
 public:
  explicit Printer(const Graph& g) : graph_(g) {
    for (const ValueId v : g.inputs) name(v);
  }

  std::string all(const std::string& indent = "") {
    out_ << "graph(";
    for (size_t i = 0; i < graph_.inputs.size(); ++i) {
      const Value& v = graph_.value(graph_.inputs[i]);
      out_ << (i > 0 ? ", " : "") << name(v.id) << ": " << v.type();
    }
    out_ << ") {\n";
    for (const Node& n : graph_.nodes()) node(n, indent + "  ");
    std::vector<std::string> outputs;
    for (const ValueId v : graph_.outputs) outputs.push_back(operand(v, indent + "  "));
    out_ << indent << "  return " << joined(outputs) << '\n' << indent << "}\n";
    return out_.str();
  }

 private:
  // Values without an ONNX name are numbered in the order of their first appearance.
  std::string name(ValueId id) {
    const auto [it, fresh] = names_.emplace(id, "");
    if (!fresh) return it->second;
    const std::string& own = graph_.value(id).name;
    it->second = own.empty() ? cat('%', counter_++) : "%" + spelled(own);
    return it->second;
  }

  std::string operand(ValueId id, const std::string& indent) {
    if (id == kAbsent) return "none";
    const Value& v = graph_.value(id);
    if (!v.is_constant()) return name(id);
    const Tensor& t = *v.fact.constant;
    if (t.dtype() == DType::f32 && t.rank() == 0 && v.recipe.empty() && v.quant == nullptr) {
      return number(t.as<float>()[0]);
    }
    if (!names_.contains(id)) {
      const std::string text = name(id);
      out_ << indent << text << " = const " << v.type() << ' ' << contents(v)
           << (v.quant != nullptr ? grid(*v.quant) : "") << '\n';
    }
    return name(id);
  }

  void node(const Node& n, const std::string& indent) {
    std::vector<std::string> in, results;
    for (const ValueId v : n.inputs) in.push_back(operand(v, indent));
    for (const ValueId v : n.outputs) results.push_back(v == kAbsent ? "none" : name(v));
    out_ << indent << joined(results) << " = " << n.op->text() << '(' << joined(in) << ')';
    const Json attrs = n.op->print(n.attrs.get());
    if (!attrs.empty()) out_ << ' ' << attrs.dump();
    for (const auto& sub : n.subgraphs) out_ << " " << print(*sub);
    out_ << '\n';
  }

  const Graph& graph_;
  std::ostringstream out_;
  std::map<ValueId, std::string> names_;
  int counter_ = 0;
};

// Recursive-descent reader of what print() writes.
class TextParser {
 public:
  TextParser(const std::string& text, const OpTable& ops) : text_(text), graph_(ops) {}

  Graph graph() {
    expect("graph");
    expect("(");
    while (!accept(")")) {
      const std::string input = value_name();
      expect(":");
      names_[input] = graph_.add_input(name_of(input), type());
      accept(",");
    }
    expect("{");
    while (!accept("return")) statement();
    do {
      const ValueId v = operand();
      graph_.add_output(v, graph_.value(v).name);
    } while (accept(","));
    expect("}");
    return std::move(graph_);
  }

 private:
  void statement() {
    std::vector<std::string> results;
    do {
      results.push_back(peek() == '%' ? value_name() : word());
    } while (accept(","));
    expect("=");
    const std::string op = word();
    op == "const" ? constant(results[0]) : node(results, op);
  }

  void constant(const std::string& result) {
    const TensorType t = type();
    Shape shape;
    for (const Dim& d : t.dims) shape.push_back(d.eval({}));
    const size_t from = (peek(), at_);
    Wide wide(t.dtype, shape);
    const bool listed = peek() == '[';
    fill(wide);
    const ValueId id = graph_.add_constant(narrow(wide), name_of(result));
    if (!listed) graph_.set_recipe(id, text_.substr(from, at_ - from));
    if (accept("quant(")) graph_.set_quant(id, grid(shape));
    names_[result] = id;
  }

  // After "quant(".
  QuantFact grid(const Shape& shape) {
    QParams q;
    q.dtype = dtype();
    while (accept(",")) {
      const std::string field = word();
      if (field == "axis") q.axis = std::stoll(word());
      if (field == "block") q.block = std::stoll(word());
      if (field == "scale" || field == "zero") {
        const auto count = static_cast<size_t>(std::max<int64_t>(count_of_scales(q, shape), 0));
        const std::vector<double> given = grid_numbers(field == "scale" ? 1 : 0, count);
        if (field == "scale") q.scale.assign(given.begin(), given.end());
        if (field == "zero") q.zero_point.assign(given.begin(), given.end());
      }
    }
    expect(")");
    q.zero_point.resize(q.scale.size());
    return std::make_shared<const QParams>(std::move(q));
  }
  // What is listed, or `fallback` for each number that the text does not carry.
  std::vector<double> grid_numbers(double fallback, size_t count) {
    if (accept("opaque(")) {
      word();
      expect(")");
      return std::vector<double>(count, fallback);
    }
    std::vector<double> out;
    for (expect("["); !accept("]"); accept(",")) out.push_back(std::stod(word()));
    return out;
  }

  void fill(Wide& wide) {
    if (accept("[")) {
      for (int64_t i = 0; i < wide.count(); ++i) {
        set(wide, i, word());
        accept(",");
      }
      expect("]");
      return;
    }
    const std::string recipe = word();
    expect("(");
    const std::string argument = word();
    expect(")");
    if (recipe == "splat") {
      for (int64_t i = 0; i < wide.count(); ++i) set(wide, i, argument);
    } else if (recipe == "normal") {
      std::mt19937_64 random(std::stoull(argument));
      std::normal_distribution<double> normal;
      for (double& x : wide.real) x = normal(random);  // integers stay 0
    } else if (recipe != "opaque") {
      throw GraphError("unknown recipe '", recipe, "' for a constant");
    }
  }
  static void set(Wide& wide, int64_t i, const std::string& value) {
    const auto at = static_cast<size_t>(i);
    if (wide.floating()) {
      wide.real[at] = std::stod(value);
    } else if (wide.dtype == DType::u64) {
      wide.integer[at] = static_cast<int64_t>(std::stoull(value));
    } else {
      wide.integer[at] = std::stoll(value);
    }
  }

  void node(const std::vector<std::string>& results, const std::string& op) {
    Node n;
    n.op = &graph_.table->at(op);
    expect("(");
    while (!accept(")")) {
      n.inputs.push_back(operand());
      accept(",");
    }
    n.attrs = n.op->parse(peek() == '{' ? attributes() : Json::object());
    while (peek() == 'g') {  // sub-graphs follow their node
      TextParser inner(text_.substr(at_), *graph_.table);
      n.subgraphs.push_back(std::make_shared<const Graph>(inner.graph()));
      at_ += inner.at_;
    }
    const auto source = static_cast<int32_t>(graph_.sources->size());
    graph_.sources->push_back({source_name(results[0]), op});
    n.origin = {source};
    for (size_t i = 0; i < results.size(); ++i) {
      const std::string& r = results[i];
      n.outputs.push_back(r == "none" ? kAbsent : graph_.add_value({}, name_of(r)));
      if (r != "none") names_[r] = n.outputs.back();
    }
    const std::vector<Fact> facts = infer_node(graph_, n);
    for (size_t i = 0; i < facts.size(); ++i) {
      if (n.outputs[i] != kAbsent) graph_.set_fact(n.outputs[i], facts[i]);
    }
    graph_.add_node(std::move(n));
  }

  ValueId operand() {
    if (peek() != '%') {
      const std::string text = word();
      if (text == "none") return kAbsent;
      return graph_.add_constant(Tensor::scalar(std::stof(text)));
    }
    const std::string value = value_name();
    const auto it = names_.find(value);
    if (it == names_.end()) throw GraphError("value %", value, " is not defined");
    return it->second;
  }

  DType dtype() {
    const std::string name = word();
    const auto known = dtype_of_name(name);
    if (!known) throw GraphError("'", name, "' is not a type");
    return *known;
  }

  TensorType type() {
    TensorType t;
    t.dtype = dtype();
    expect("[");
    const size_t end = text_.find(']', at_);
    std::string dims = text_.substr(at_, end - at_);
    at_ = end + 1;
    // min(a,b) and max(a,b) hold commas of their own.
    int depth = 0;
    std::string item;
    for (const char c : dims + ",") {
      depth += c == '(' ? 1 : c == ')' ? -1 : 0;
      if (c != ',' || depth > 0) {
        item += c;
      } else if (!item.empty()) {
        t.dims.push_back(Dim::parse(item));
        item.clear();
      }
    }
    return t;
  }

  Json attributes() {
    size_t end = at_;
    int depth = 0;
    do {
      depth += text_[end] == '{' ? 1 : text_[end] == '}' ? -1 : 0;
      ++end;
    } while (depth > 0 && end < text_.size());
    Json json = Json::parse(text_.substr(at_, end - at_));
    at_ = end;
    return json;
  }

  // Inside the parser a quoted name keeps its quotes, so that %"7" and %7 are two values.
  static std::string name_of(const std::string& token) {
    if (token.starts_with('"')) return Json::parse(token).get<std::string>();
    return is_number(token) ? "" : token;
  }
  // A node is called after its first result.
  static std::string source_name(const std::string& token) {
    const std::string own = name_of(token);
    return own.empty() ? "%" + token : own;
  }
  char peek() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_])) != 0) ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool accept(std::string_view token) {
    peek();
    if (text_.compare(at_, token.size(), token) != 0) return false;
    at_ += token.size();
    return true;
  }
  void expect(std::string_view token) {
    if (!accept(token)) {
      throw GraphError("expected '", token, "' at '", text_.substr(at_, 20), "'");
    }
  }
  std::string value_name() {
    expect("%");
    if (at_ >= text_.size() || text_[at_] != '"') return word();
    const size_t start = at_++;
    while (at_ < text_.size() && text_[at_] != '"') at_ += text_[at_] == '\\' ? 2 : 1;
    ++at_;
    return text_.substr(start, at_ - start);
  }
  std::string word() {
    peek();
    const size_t start = at_;
    while (at_ < text_.size() && is_word(text_[at_])) ++at_;
    return text_.substr(start, at_ - start);
  }

  std::string text_;
  size_t at_ = 0;
  Graph graph_;
  std::map<std::string, ValueId> names_;
};

}  // namespace

std::string print(const Graph& g) { return Printer(g).all(); }

Graph parse_graph(const std::string& text, const OpTable& ops) {
  return TextParser(text, ops).graph();
}

}  // namespace planck
