#pragma once
// The whole-graph passes, in the order of their names; passes/pipeline.cpp has the order of work.
#include "passes/pass.h"

namespace planck {

// What inference knows of the node's outputs by now and the graph does not, if there is anything.
std::optional<Patch> sharper_facts(const Graph& g, const Node& n);

Pass pass_all_places();
Pass pass_crop_first();
Pass pass_cse();
Pass pass_dead_code();
Pass pass_drop_identity();
Pass pass_expand_guard();
Pass pass_fake_quant();
Pass pass_fold();  // has a budget, so it is made afresh for each run
Pass pass_hoist_crop();
Pass pass_infer();
Pass pass_integer_ops();
Pass pass_merge_views();
Pass pass_quant_moves();
Pass pass_quantized();
Pass pass_saturation();
Pass pass_shapes();
Pass pass_simplify();
Pass pass_slice_updates();
Pass pass_unsigned_bytes();
Pass pass_widen_half();

}  // namespace planck
