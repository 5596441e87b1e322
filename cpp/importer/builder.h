#pragma once
#include <map>
#include <string>

#include "importer/tensors.h"

namespace planck::importer {

// The one walk over all graphs of a parsed model. dims: extents of dimensions that have a name.
Graph build_graph(const onnx::ModelProto& model, const OpTable& ops, Payloads& payloads,
                  const std::map<std::string, int64_t>& dims);

}  // namespace planck::importer
