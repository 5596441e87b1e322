#include "passes/pass.h"

namespace planck {

#define PLANCK_FUSION_ROW(name) Pass fusion_##name();
#include "passes/fusions/fusions.inc"
#undef PLANCK_FUSION_ROW

// The recipe; one row, one reason for its place.
std::vector<Pass> pipeline() {
  return {
#define PLANCK_FUSION_ROW(name) fusion_##name(),
#include "passes/fusions/fusions.inc"
#undef PLANCK_FUSION_ROW
  };
}

}  // namespace planck
