#include "base/dim.h"

#include <algorithm>
#include <cctype>
#include <optional>
#include <set>

#include "base/checked.h"
#include "base/error.h"

namespace planck {
namespace {

int64_t floor_quotient(int64_t a, int64_t b) {
  const int64_t q = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
}

int64_t apply(DimAtom::Kind kind, int64_t a, int64_t b) {
  switch (kind) {
    case DimAtom::Kind::min:
      return std::min(a, b);
    case DimAtom::Kind::max:
      return std::max(a, b);
    default:
      break;
  }
  if (b == 0) throw RunError("a shape expression divides by zero");
  if (b == -1) return kind == DimAtom::Kind::mod ? 0 : checked_mul(a, -1);  // INT64_MIN / -1 traps
  const int64_t q = floor_quotient(a, b);
  return kind == DimAtom::Kind::floordiv ? q : a - q * b;
}

std::string spelled(DimAtom::Kind kind, const Dim& a, const Dim& b) {
  switch (kind) {
    case DimAtom::Kind::floordiv:
      return cat("((", a, ")//(", b, "))");
    case DimAtom::Kind::mod:
      return cat("((", a, ")%(", b, "))");
    case DimAtom::Kind::min:
      return cat("min(", a, ",", b, ")");
    case DimAtom::Kind::max:
      return cat("max(", a, ",", b, ")");
    case DimAtom::Kind::symbol:
      break;
  }
  return "";
}

constexpr size_t kMostTerms = 512;

// Saturating arithmetic: an interval end that overflows is "unbounded".
int64_t clamp_add(int64_t a, int64_t b) {
  int64_t out;
  if (!__builtin_add_overflow(a, b, &out)) return out;
  return a > 0 ? INT64_MAX : INT64_MIN;
}
int64_t clamp_mul(int64_t a, int64_t b) {
  int64_t out;
  if (!__builtin_mul_overflow(a, b, &out)) return out;
  return (a < 0) != (b < 0) ? INT64_MIN : INT64_MAX;
}
Interval times(const Interval& x, const Interval& y) {
  const int64_t ends[] = {clamp_mul(x.low, y.low), clamp_mul(x.low, y.high),
                          clamp_mul(x.high, y.low), clamp_mul(x.high, y.high)};
  return {*std::ranges::min_element(ends), *std::ranges::max_element(ends)};
}

Interval atom_bounds(const DimAtom& atom, const SymbolBounds& bounds) {
  if (atom.kind == DimAtom::Kind::symbol) {
    const auto it = bounds.find(atom.text);
    return it == bounds.end() ? Interval{} : it->second;
  }
  const Interval a = atom.operands[0].bounds(bounds), b = atom.operands[1].bounds(bounds);
  switch (atom.kind) {
    case DimAtom::Kind::min:
      return {std::min(a.low, b.low), std::min(a.high, b.high)};
    case DimAtom::Kind::max:
      return {std::max(a.low, b.low), std::max(a.high, b.high)};
    case DimAtom::Kind::mod:
      return b.low > 0 ? Interval{0, b.high - 1} : Interval{INT64_MIN, INT64_MAX};
    default:
      if (b.low <= 0) return {INT64_MIN, INT64_MAX};
      return {
          a.low >= 0 ? floor_quotient(a.low, b.high) : floor_quotient(a.low, b.low),
          a.high == INT64_MAX ? INT64_MAX : floor_quotient(a.high, a.high >= 0 ? b.low : b.high)};
  }
}

// Recursive descent over the grammar of Dim::parse.
class DimParser {
 public:
  explicit DimParser(std::string_view text) : text_(text) {}

  Dim all() {
    Dim d = sum();
    if (at_ != text_.size()) fail();
    return d;
  }

 private:
  Dim sum() {
    Dim d = product();
    for (;;) {
      if (accept("+")) {
        d = d + product();
      } else if (accept("-")) {
        d = d - product();
      } else {
        return d;
      }
    }
  }
  Dim product() {
    Dim d = unary();
    for (;;) {
      if (accept("*")) {
        d = d * unary();
      } else if (accept("//")) {
        d = floordiv(d, unary());
      } else if (accept("%")) {
        d = mod(d, unary());
      } else {
        return d;
      }
    }
  }
  Dim unary() {
    if (++depth_ > 64) fail();
    Dim out;
    if (accept("-")) {
      out = Dim(0) - unary();
    } else if (accept("(")) {
      out = sum();
      expect(")");
    } else if (accept("min(")) {
      out = call(min);
    } else if (accept("max(")) {
      out = call(max);
    } else {
      out = leaf();
    }
    --depth_;
    return out;
  }
  Dim call(Dim (*f)(const Dim&, const Dim&)) {
    const Dim a = sum();
    expect(",");
    const Dim b = sum();
    expect(")");
    return f(a, b);
  }
  Dim leaf() {
    const size_t from = at_;
    while (at_ < text_.size() && is_word(text_[at_]) && text_.substr(at_, 2) != "//") ++at_;
    const std::string_view word = text_.substr(from, at_ - from);
    if (word.empty()) fail();
    if (std::isdigit(static_cast<unsigned char>(word[0])) == 0) return Dim::symbol(word);
    int64_t value = 0;
    for (const char c : word) {
      if (std::isdigit(static_cast<unsigned char>(c)) == 0) fail();
      value = checked_add(checked_mul(value, 10), c - '0');
    }
    return value;
  }
  static bool is_word(char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
           std::string_view("_.:@#$?/").find(c) != std::string_view::npos;
  }
  bool accept(std::string_view token) {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
    if (!text_.substr(at_).starts_with(token)) return false;
    at_ += token.size();
    return true;
  }
  void expect(std::string_view token) {
    if (!accept(token)) fail();
  }
  [[noreturn]] void fail() const {
    throw GraphError("'", text_, "' is not a shape expression (at character ", at_, ")");
  }

  std::string_view text_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

Dim Dim::symbol(std::string_view name) {
  auto atom = std::make_shared<DimAtom>();
  atom->text = name;
  Dim out;
  out.terms_.push_back({1, {atom}, atom->text});
  return out;
}

Dim Dim::parse(std::string_view text) { return DimParser(text).all(); }

Dim Dim::from_atom(DimAtom::Kind kind, const Dim& a, const Dim& b) {
  auto atom = std::make_shared<DimAtom>();
  atom->kind = kind;
  atom->text = spelled(kind, a, b);
  atom->operands = {a, b};
  Dim out;
  out.terms_.push_back({1, {atom}, atom->text});
  return out;
}

std::string_view Dim::as_symbol() const {
  const bool one = constant_ == 0 && terms_.size() == 1 && terms_[0].coefficient == 1 &&
                   terms_[0].atoms.size() == 1 && terms_[0].atoms[0]->kind == DimAtom::Kind::symbol;
  return one ? std::string_view(terms_[0].atoms[0]->text) : std::string_view();
}

std::vector<std::string> Dim::symbols() const {
  std::set<std::string> names;
  for (const Term& t : terms_) {
    for (const DimAtomPtr& atom : t.atoms) {
      if (atom->kind == DimAtom::Kind::symbol) names.insert(atom->text);
      for (const Dim& d : atom->operands) {
        for (const std::string& s : d.symbols()) names.insert(s);
      }
    }
  }
  return {names.begin(), names.end()};
}

int64_t Dim::eval(const Bindings& bindings) const {
  int64_t sum = constant_;
  for (const Term& t : terms_) {
    int64_t value = t.coefficient;
    for (const DimAtomPtr& atom : t.atoms) {
      int64_t factor = 0;
      if (atom->kind == DimAtom::Kind::symbol) {
        const auto it = bindings.find(atom->text);
        if (it == bindings.end()) throw UsageError("no value for the dimension '", atom->text, "'");
        factor = it->second;
      } else {
        factor =
            apply(atom->kind, atom->operands[0].eval(bindings), atom->operands[1].eval(bindings));
      }
      value = checked_mul(value, factor, "shape expression");
    }
    sum = checked_add(sum, value, "shape expression");
  }
  return sum;
}

Interval Dim::bounds(const SymbolBounds& bounds) const {
  Interval sum{constant_, constant_};
  for (const Term& t : terms_) {
    Interval value{t.coefficient, t.coefficient};
    for (const DimAtomPtr& atom : t.atoms) value = times(value, atom_bounds(*atom, bounds));
    sum = {clamp_add(sum.low, value.low), clamp_add(sum.high, value.high)};
  }
  return sum;
}

std::string Dim::text() const {
  std::string out;
  for (const Term& t : terms_) {
    if (t.coefficient > 0 && !out.empty()) out += '+';
    if (t.coefficient == -1) {
      out += '-';
    } else if (t.coefficient != 1) {
      out += cat(t.coefficient, '*');
    }
    out += t.key;
  }
  if (constant_ != 0 || terms_.empty()) {
    if (constant_ >= 0 && !out.empty()) out += '+';
    out += cat(constant_);
  }
  return out;
}

bool Dim::operator==(const Dim& other) const {
  return constant_ == other.constant_ &&
         std::ranges::equal(terms_, other.terms_, [](const Term& a, const Term& b) {
           return a.coefficient == b.coefficient && a.key == b.key;
         });
}

void Dim::add_term(Term term) {
  if (term.coefficient == 0) return;
  const auto at = std::ranges::lower_bound(terms_, term.key, {}, &Term::key);
  if (at == terms_.end() || at->key != term.key) {
    // Real shapes have a handful; a hostile file could ask for 2^n.
    if (terms_.size() >= kMostTerms) throw GraphError("a shape expression has too many terms");
    terms_.insert(at, std::move(term));
    return;
  }
  at->coefficient = checked_add(at->coefficient, term.coefficient, "shape expression");
  if (at->coefficient == 0) terms_.erase(at);
}

Dim operator+(const Dim& a, const Dim& b) {
  Dim out = a;
  out.constant_ = checked_add(a.constant_, b.constant_, "shape expression");
  for (const Dim::Term& t : b.terms_) out.add_term(t);
  return out;
}

Dim operator-(const Dim& a, const Dim& b) { return a + b * Dim(-1); }

Dim operator*(const Dim& a, const Dim& b) {
  Dim out(checked_mul(a.constant_, b.constant_, "shape expression"));
  const auto scaled = [&](const Dim& d, int64_t by) {
    for (Dim::Term t : d.terms_) {
      t.coefficient = checked_mul(t.coefficient, by, "shape expression");
      out.add_term(std::move(t));
    }
  };
  scaled(a, b.constant_);
  scaled(b, a.constant_);
  for (const Dim::Term& x : a.terms_) {
    for (const Dim::Term& y : b.terms_) {
      Dim::Term t{checked_mul(x.coefficient, y.coefficient, "shape expression"), x.atoms, ""};
      t.atoms.insert(t.atoms.end(), y.atoms.begin(), y.atoms.end());
      std::ranges::sort(t.atoms, {}, &DimAtom::text);
      for (const DimAtomPtr& atom : t.atoms) t.key += (t.key.empty() ? "" : "*") + atom->text;
      out.add_term(std::move(t));
    }
  }
  return out;
}

std::optional<Dim> exact_div(const Dim& a, const Dim& b) {
  if (b == Dim(0)) return std::nullopt;
  if (a == b) return Dim(1);
  if (b.terms_.size() + (b.constant_ != 0 ? 1 : 0) != 1) return std::nullopt;
  const int64_t c = b.terms_.empty() ? b.constant_ : b.terms_[0].coefficient;
  if (c == -1) return exact_div(a * Dim(-1), b * Dim(-1));  // INT64_MIN / -1 traps
  if (!b.terms_.empty() && a.constant_ != 0) return std::nullopt;
  if (a.constant_ % c != 0) return std::nullopt;
  Dim out(a.constant_ / c);
  for (const Dim::Term& t : a.terms_) {
    if (t.coefficient % c != 0) return std::nullopt;
    Dim rest(t.coefficient / c);
    std::vector<DimAtomPtr> left = t.atoms;
    if (!b.terms_.empty()) {
      for (const DimAtomPtr& atom : b.terms_[0].atoms) {
        const auto at = std::ranges::find(left, atom->text, [](const auto& p) { return p->text; });
        if (at == left.end()) return std::nullopt;
        left.erase(at);
      }
    }
    for (const DimAtomPtr& atom : left) {
      Dim factor;
      factor.terms_.push_back({1, {atom}, atom->text});
      rest = rest * factor;
    }
    out = out + rest;
  }
  return out;
}

Dim floordiv(const Dim& a, const Dim& b) {
  if (a.is_constant() && b.is_constant() && b.constant_ != 0) {
    return apply(DimAtom::Kind::floordiv, a.constant_, b.constant_);
  }
  if (const auto q = exact_div(a, b)) return *q;
  if (!b.is_constant() || b.constant_ <= 0) return Dim::from_atom(DimAtom::Kind::floordiv, a, b);
  // floor((b q + r) / b) = q + floor(r / b): what b divides leaves the atom.
  Dim quotient(floor_quotient(a.constant_, b.constant_));
  Dim rest(a.constant_ - quotient.constant_ * b.constant_);
  for (const Dim::Term& t : a.terms_) {
    Dim one;
    one.terms_.push_back(t);
    if (const auto q = exact_div(one, b)) {
      quotient = quotient + *q;
    } else {
      rest = rest + one;
    }
  }
  if (rest.is_constant()) return quotient + floor_quotient(rest.constant_, b.constant_);
  return quotient + Dim::from_atom(DimAtom::Kind::floordiv, rest, b);
}

Dim mod(const Dim& a, const Dim& b) {
  if (a.is_constant() && b.is_constant() && b.constant_ != 0) {
    return apply(DimAtom::Kind::mod, a.constant_, b.constant_);
  }
  if (exact_div(a, b)) return 0;
  return Dim::from_atom(DimAtom::Kind::mod, a, b);
}

Dim min(const Dim& a, const Dim& b) {
  if (a == b) return a;
  const Dim gap = a - b;
  if (gap.is_constant()) return gap.constant() < 0 ? a : b;
  return a.text() < b.text() ? Dim::from_atom(DimAtom::Kind::min, a, b)
                             : Dim::from_atom(DimAtom::Kind::min, b, a);
}

Dim max(const Dim& a, const Dim& b) {
  if (a == b) return a;
  const Dim gap = a - b;
  if (gap.is_constant()) return gap.constant() > 0 ? a : b;
  return a.text() < b.text() ? Dim::from_atom(DimAtom::Kind::max, a, b)
                             : Dim::from_atom(DimAtom::Kind::max, b, a);
}

Dim product(std::span<const Dim> dims) {
  Dim out(1);
  for (const Dim& d : dims) out = out * d;
  return out;
}

}  // namespace planck
