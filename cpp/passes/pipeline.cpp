#include "passes/passes.h"

namespace planck {

#define PLANCK_FUSION_ROW(name) Pass fusion_##name();
#include "passes/fusions/fusions.inc"
#undef PLANCK_FUSION_ROW

// The recipe; one row, one reason for its place.
std::vector<Pass> pipeline() {
  return {
      pass_dead_code(),       // what nobody reads need not be looked at again
      pass_drop_identity(),   // exporters leave hundreds; patterns then need no detours
      pass_expand_guard(),    // before infer, which then knows what is behind the guards
      pass_all_places(),      // the same
      pass_infer(),           // contents that the importer could not see, so that shapes are known
      pass_widen_half(),      // after infer; all that follows finds float models in f32
      pass_integer_ops(),     // before fold, which then sees through their weights
      pass_fake_quant(),      // the same
      pass_fold(),            // shape arithmetic and weights become constants
      pass_shapes(),          // needs what infer found; kills the chains of Shape nodes
      pass_simplify(),        // after fold: neutral elements are constants
      pass_slice_updates(),   // after fold: the indices are constants
      pass_crop_first(),      // after simplify made crops of picks, and slice_updates joins
      pass_hoist_crop(),      // after shapes, which makes crops of slices
      pass_merge_views(),     // Unsqueeze after Unsqueeze is one view by now, and so are picks
      pass_fold(),            // parts of constants, and the products of whole tables
      pass_cse(),             // after shapes: equal chains have become equal nodes
      pass_drop_identity(),   // views and broadcasts to the same shape
      pass_fake_quant(),      // again: folding made constants of its parameters
      pass_saturation(),      // after fold, and before the limits become epilogues
      pass_unsigned_bytes(),  // while each Q and its DQ are still neighbours
      pass_quant_moves(),     // before the fusions, which then find products between Q and DQ
      pass_cse(),             // one DQ for all who read the same integers
#define PLANCK_FUSION_ROW(name) fusion_##name(),
#include "passes/fusions/fusions.inc"
#undef PLANCK_FUSION_ROW
      pass_fold(),         // functions of whole tables
      pass_merge_views(),  // fusions add views where the heads were split and merged
      pass_cse(),          // and the same view for k and v
      pass_dead_code(),    // nothing stays that only a refused attempt would have read
      pass_infer(),        // the last word on every shape, for lowering
      pass_quantized(),    // changes nothing: what stayed float, and why
  };
}

}  // namespace planck
