#pragma once
// Short spellings for tests of ops: call a reference, call inference, make tensors.
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "ops/evaluate.h"
#include "ops/ops.h"

namespace planck {

inline Wide reals(Shape shape, std::vector<double> values, DType dtype = DType::f32) {
  Wide out(dtype, std::move(shape));
  out.real = std::move(values);
  return out;
}

inline Wide ints(Shape shape, std::vector<int64_t> values, DType dtype = DType::s64) {
  Wide out(dtype, std::move(shape));
  out.integer = std::move(values);
  return out;
}

inline Wide normal(Shape shape, unsigned seed) {
  Wide out(DType::f32, std::move(shape));
  std::mt19937 random(seed);
  std::normal_distribution<double> values;
  for (double& v : out.real) v = values(random);
  return out;
}

// Absent inputs are null pointers.
inline std::vector<Wide> call_all(const std::string& op, const std::string& attrs,
                                  std::vector<const Wide*> in, size_t outputs = 1,
                                  const Bindings& bindings = {}) {
  const OpDef& def = builtin_ops().at(op);
  std::vector<Wide> out(outputs);
  Evaluation evaluation{in, out, &bindings};
  evaluate(def, def.parse(Json::parse(attrs)).get(), evaluation);
  return out;
}

inline Wide call(const std::string& op, const std::string& attrs,
                 std::initializer_list<Wide> inputs) {
  std::vector<const Wide*> in;
  for (const Wide& w : inputs) in.push_back(&w);
  return call_all(op, attrs, in)[0];
}

// --- facts ---
inline Fact value(DType dtype, std::vector<Dim> dims) { return {{dtype, std::move(dims)}, {}, {}}; }
inline Fact f32(std::vector<Dim> dims) { return value(DType::f32, std::move(dims)); }
inline Fact known(std::vector<int64_t> numbers) {
  return {{DType::s64, {static_cast<int64_t>(numbers.size())}},
          std::make_shared<const Tensor>(Tensor::ints(numbers)),
          {}};
}
inline Fact number(int64_t value) {
  return {{DType::s64, {}},
          std::make_shared<const Tensor>(
              Tensor::of<int64_t>(DType::s64, {}, std::span<const int64_t>(&value, 1))),
          {}};
}

inline std::vector<Fact> infer_all(const std::string& op, const std::string& attrs,
                                   const std::vector<const Fact*>& in, size_t outputs = 1) {
  const OpDef& def = builtin_ops().at(op);
  std::vector<Fact> out(outputs);
  Inference inference{in, out, [](int i) { return Dim::symbol("fresh" + std::to_string(i)); }};
  def.infer(def.parse(Json::parse(attrs)).get(), inference);
  return out;
}

inline Fact infer(const std::string& op, const std::string& attrs,
                  std::initializer_list<Fact> facts) {
  std::vector<const Fact*> in;
  for (const Fact& f : facts) in.push_back(&f);
  return infer_all(op, attrs, in)[0];
}

// "f32[B,L,768]", and " {B,12}" behind it where contents are known.
inline std::string text(const Fact& f) {
  std::string out = cat(f.type);
  if (f.contents) out += cat(" {", joined(*f.contents, ","), "}");
  return out;
}

// The message of the error that body throws, "" if it throws none.
template <class E>
std::string message_of(auto&& body) {
  try {
    body();
  } catch (const E& e) {
    return e.what();
  }
  return "";
}

}  // namespace planck
