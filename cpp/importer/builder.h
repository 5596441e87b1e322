#pragma once
#include "importer/tensors.h"

namespace planck::importer {

// The one walk over all graphs of a parsed model.
Graph build_graph(const onnx::ModelProto& model, const OpTable& ops, Payloads& payloads,
                  const ImportOptions& options);

}  // namespace planck::importer
