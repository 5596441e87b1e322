#include "importer/expansions.h"

#include <algorithm>
#include <cstdint>

namespace planck::importer {

#define PLANCK_EXPANSION(domain, op, fewest, most, outputs, function) \
  std::vector<ValueId> expand_##function(Draft& draft, Emitter& emit);
#include "importer/expansions.inc"
#undef PLANCK_EXPANSION

namespace {

struct Expansion {
  std::string_view domain, op;
  size_t fewest_inputs, most_inputs, most_outputs;
  std::vector<ValueId> (*apply)(Draft& draft, Emitter& emit);
};

constexpr size_t kMany = SIZE_MAX;
constexpr Expansion kExpansions[] = {
#define PLANCK_EXPANSION(domain, op, fewest, most, outputs, function) \
  {domain, #op, fewest, most, outputs, expand_##function},
#include "importer/expansions.inc"
#undef PLANCK_EXPANSION
};

const Expansion* find(std::string_view domain, std::string_view op) {
  const auto* row = std::ranges::find_if(
      kExpansions, [&](const Expansion& e) { return e.domain == domain && e.op == op; });
  return row == std::end(kExpansions) ? nullptr : row;
}

void check_counts(const Expansion& row, const Draft& draft) {
  if (draft.inputs.size() < row.fewest_inputs || draft.inputs.size() > row.most_inputs) {
    throw GraphError(row.op, " takes ", row.fewest_inputs, " to ", row.most_inputs, " inputs, got ",
                     draft.inputs.size());
  }
  if (draft.outputs > row.most_outputs) {
    throw GraphError(row.op, " has at most ", row.most_outputs, " outputs, not ", draft.outputs);
  }
}

}  // namespace

bool expands(std::string_view domain, std::string_view op) { return find(domain, op) != nullptr; }

std::vector<ValueId> expand(std::string_view domain, Draft& draft, Emitter& emit) {
  const Expansion& row = *find(domain, draft.op);
  check_counts(row, draft);
  if (domain.empty() && draft.opset < 6) draft.attrs.erase("consumed_inputs");
  std::vector<ValueId> results = row.apply(draft, emit);
  if (!draft.attrs.empty()) {
    throw GraphError(row.op, " has no attribute ", draft.attrs.begin().key());
  }
  if (!draft.tensors.empty()) {
    throw GraphError(row.op, " has no tensor attribute ", draft.tensors.begin()->first);
  }
  results.resize(draft.outputs, kAbsent);
  return results;
}

}  // namespace planck::importer
