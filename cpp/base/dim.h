#pragma once
// Dim: an extent that may depend on symbols, as an integer polynomial over atoms.
// Goals: canonical form, so that equality is comparison; exact arithmetic that survives to run
// time (((T-1)/2-1)/2 stays as such); evaluation under a binding; interval bounds.
// Non-goals: a solver. What is not provable by cancelling terms is not known.
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace planck {

class Dim;

// What a polynomial is built over: a symbol, or an operation that is opaque to polynomials.
struct DimAtom {
  enum class Kind : uint8_t { symbol, floordiv, mod, min, max };
  Kind kind = Kind::symbol;
  std::string text;           // canonical spelling; equal text is the same atom
  std::vector<Dim> operands;  // two of them, none for a symbol
};
using DimAtomPtr = std::shared_ptr<const DimAtom>;

using Bindings = std::map<std::string, int64_t, std::less<>>;  // symbol -> extent

struct Interval {
  int64_t low = 0;
  int64_t high = INT64_MAX;
};
using SymbolBounds = std::map<std::string, Interval, std::less<>>;

class Dim {
 public:
  Dim(int64_t constant = 0) : constant_(constant) {}  // NOLINT: numbers are Dims
  static Dim symbol(std::string_view name);
  // Reads what text() writes: sums and products of integers, names, (a//b), (a%b), min(a,b),
  // max(a,b). Throws GraphError.
  static Dim parse(std::string_view text);

  bool is_constant() const { return terms_.empty(); }
  int64_t constant() const { return constant_; }  // the constant term
  std::optional<int64_t> known() const {
    return is_constant() ? std::optional(constant_) : std::nullopt;
  }
  // The name if this is exactly one symbol, else empty.
  std::string_view as_symbol() const;
  // Names of all symbols inside, sorted, each once.
  std::vector<std::string> symbols() const;

  // Value under the binding. Throws UsageError naming a symbol without a value, RunError on
  // division by zero, GraphError on overflow.
  int64_t eval(const Bindings& bindings) const;
  Interval bounds(const SymbolBounds& bounds) const;

  std::string text() const;
  bool operator==(const Dim& other) const;

  friend Dim operator+(const Dim& a, const Dim& b);
  friend Dim operator-(const Dim& a, const Dim& b);
  friend Dim operator*(const Dim& a, const Dim& b);
  friend Dim floordiv(const Dim& a, const Dim& b);  // rounds towards minus infinity
  friend Dim mod(const Dim& a, const Dim& b);       // sign of b, as Python
  friend Dim min(const Dim& a, const Dim& b);
  friend Dim max(const Dim& a, const Dim& b);
  // a / b if b divides every term of a, else nothing: [12*B*L] / [12] = B*L.
  friend std::optional<Dim> exact_div(const Dim& a, const Dim& b);

 private:
  struct Term {
    int64_t coefficient;
    std::vector<DimAtomPtr> atoms;  // sorted by text; repeated for powers; never empty
    std::string key;                // texts joined by '*'
  };
  static Dim from_atom(DimAtom::Kind kind, const Dim& a, const Dim& b);
  void add_term(Term term);

  int64_t constant_ = 0;
  std::vector<Term> terms_;  // sorted by key, no zero coefficient
};

Dim floordiv(const Dim& a, const Dim& b);
Dim mod(const Dim& a, const Dim& b);
Dim min(const Dim& a, const Dim& b);
Dim max(const Dim& a, const Dim& b);
std::optional<Dim> exact_div(const Dim& a, const Dim& b);
Dim product(std::span<const Dim> dims);

inline std::ostream& operator<<(std::ostream& out, const Dim& d) { return out << d.text(); }

}  // namespace planck
