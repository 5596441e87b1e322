#pragma once
// ONNX files to graphs: the only room that sees protobuf.
// Goals: any bytes give a graph or a typed error within the limits; weights stay where they are in
// the file; nothing of the model is lost (every ONNX node is in Graph::sources).
// Non-goals: optimising. What the file says is what the graph says, at the newest opset.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "ir/graph.h"

namespace planck {

inline constexpr int64_t kOldestOpset = 1;
inline constexpr int64_t kNewestOpset = 28;

// What a model may ask for. A LimitError names the field, its value and what was needed.
struct ImportLimits {
  int64_t model_bytes = int64_t{2} << 30;   // the file, without external data
  int64_t parse_bytes = int64_t{2} << 30;   // memory of the parsed model, less large payloads
  int64_t tensor_bytes = int64_t{4} << 30;  // one constant
  int64_t nodes = 1'000'000;                // of all graphs, after inlining of functions
  int64_t functions = 10'000;
  int64_t call_depth = 100;
  int64_t subgraph_depth = 64;
  int64_t message_depth = 100;  // of protobuf; a sub-graph takes three
  int64_t rank = 32;
  int64_t name_length = 4096;

  static ImportLimits tight();  // for input that nobody vouches for
};

struct ImportOptions {
  ImportLimits limits;
  std::string external_data_dir;  // for import_bytes; a file's own folder otherwise
};

// Errors: FileError, ParseError (not the format), GraphError (breaks a rule of ONNX),
// UnsupportedError (names every op that is missing), ExternalDataError, VersionError, LimitError.
// Constants may keep the file mapped for as long as they live.
Graph import_file(const std::string& path, const OpTable& ops, const ImportOptions& options = {});

// The same for a model in memory; large constants are copied, so the bytes may go afterwards.
Graph import_bytes(std::span<const std::byte> bytes, const OpTable& ops,
                   const ImportOptions& options = {});

}  // namespace planck
