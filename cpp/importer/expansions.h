#pragma once
// Ops that have no row in ops.inc because others say the same: a node of such an op becomes
// several. What comes out is what an exporter could have written, so that passes know one spelling
// less.
#include "importer/draft.h"

namespace planck::importer {

// Whether the op, of ONNX ("") or of another domain, is expanded.
bool expands(std::string_view domain, std::string_view op);

// Emits the nodes that stand for the draft and returns its outputs, as many as the draft has.
// kAbsent: not made; the caller refuses the node if that output has a name. At least one node is
// emitted, so that the ONNX node is the origin of something.
// Errors: GraphError for wrong attributes, inputs or outputs, UnsupportedError for a feature.
std::vector<ValueId> expand(std::string_view domain, Draft& draft, Emitter& emit);

}  // namespace planck::importer
