#pragma once
#include <optional>
#include <span>
#include <vector>

#include "ir/op_def.h"

namespace planck {

// The one door to a reference: checks the number of inputs and outputs and the size of inputs, runs
// it, wraps integers to their types and checks that every output was set.
void evaluate(const OpDef& op, const void* attrs, Evaluation& call);

// What a reference takes for granted: types, ranks, extents and attributes as the op's own
// inference wants them, given the facts of one run, and the types that the outputs are declared to
// have (none: absent). A file may declare anything, and symbols that were taken as equal may have
// turned out to differ. RunError; UnsupportedError where inference needs contents that `in` lacks.
void check_types(const OpDef& op, const void* attrs, std::span<const Fact* const> in,
                 std::span<const std::optional<DType>> out);
// A value of a run as inference sees it, with its contents if they are few.
Fact fact_of(const Wide& value);

}  // namespace planck
