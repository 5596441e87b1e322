#pragma once
// What every op's struct declares. The structs live in headers, since passes build and read them
// as types; their bodies live in the .cpp file that ops.inc names.
#include "ir/op_def.h"

// Name, accuracy class, then minimum and maximum of inputs and of outputs (1, 1 if not given).
#define PLANCK_OP_FACTS(Op, accuracy, ...) PLANCK_FACTS_OF(Op, #Op, accuracy, __VA_ARGS__)
#define PLANCK_OWN_OP_FACTS(Op, accuracy, ...) \
  PLANCK_FACTS_OF(Op, "planck." #Op, accuracy, __VA_ARGS__)

#define PLANCK_FACTS_OF(Op, text, accuracy, ...)            \
  static constexpr std::string_view kName = #Op;            \
  static constexpr const char* kText = text;                \
  static constexpr Accuracy kAccuracy = Accuracy::accuracy; \
  static constexpr Arity kArity{__VA_ARGS__};               \
  void infer(Inference& call) const;                        \
  void reference(Evaluation& call) const;

#define PLANCK_NO_FIELDS \
  static void fields(auto&, auto&&) {}
