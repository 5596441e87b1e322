#pragma once
// ONNX files to graphs: the only room that sees protobuf.
// Goals: any bytes give a graph or a typed error within the limits; weights stay where they are in
// the file; nothing of the model is lost (every ONNX node is in Graph::sources).
// Non-goals: optimising. What the file says is what the graph says, at the newest opset.
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>

#include "base/limits.h"
#include "ir/graph.h"

namespace planck {

inline constexpr int64_t kOldestOpset = 1;
inline constexpr int64_t kNewestOpset = 28;

struct ImportOptions {
  Limits limits;
  std::string external_data_dir;             // for import_bytes; a file's own folder otherwise
  std::map<std::string, int64_t> dims = {};  // extents of symbolic dimensions, by their ONNX names
  std::map<std::string, Tensor> initializers = {};  // in place of the model's, of the same type
  std::set<std::string> fed_initializers = {};  // those among the inputs that every run is to give
};

// Errors: FileError, ParseError (not the format), GraphError (breaks a rule of ONNX),
// UnsupportedError (names every op that is missing), ExternalDataError, VersionError, LimitError,
// UsageError (an option does not fit the model).
// Constants may keep the file mapped for as long as they live.
Graph import_file(const std::string& path, const OpTable& ops, const ImportOptions& options = {});

// The same for a model in memory; large constants are copied, so the bytes may go afterwards.
Graph import_bytes(std::span<const std::byte> bytes, const OpTable& ops,
                   const ImportOptions& options = {});

}  // namespace planck
