#include "importer/importer.h"

#include <google/protobuf/io/coded_stream.h>

#include "base/file.h"
#include "base/limits.h"
#include "importer/builder.h"
#include "importer/formats.h"
#include "importer/scan.h"

namespace planck {
namespace {

onnx::ModelProto parse(const std::string& bytes, const Limits& limits) {
  // scan() has capped depth and sizes; protobuf's own limits are a second fence.
  constexpr int64_t kMessagesOfAGraph = 3;  // graph, node, attribute
  const auto most_depth =
      static_cast<int>(limits.nesting + kMessagesOfAGraph * (limits.subgraph_depth + 1));
  onnx::ModelProto model;
  google::protobuf::io::CodedInputStream stream(reinterpret_cast<const uint8_t*>(bytes.data()),
                                                static_cast<int>(bytes.size()));
  stream.SetTotalBytesLimit(INT32_MAX);
  stream.SetRecursionLimit(most_depth);
  if (!model.ParseFromCodedStream(&stream) || !stream.ConsumedEntireMessage()) {
    throw ParseError("this is no ONNX model: protobuf cannot read it");
  }
  return model;
}

// What scan() keeps; a file of another kind is told by its name, not by the place where it fails.
std::string scanned(std::span<const std::byte> bytes, const Limits& limits) {
  try {
    return importer::scan(bytes, limits);
  } catch (const ParseError&) {
    const importer::Format* format = importer::other_format(bytes);
    if (format == nullptr) throw;
    throw with(ParseError("this is no ONNX model but ", format->name),
               {.expected = "an ONNX model",
                .got = std::string(format->name),
                .hint = std::string(format->hint)});
  }
}

Graph import_model(const Bytes& bytes, const std::string& folder, const OpTable& ops,
                   const ImportOptions& options) {
  const Limits& limits = options.limits;
  within("model_bytes", limits.model_bytes, static_cast<int64_t>(bytes.span.size()),
         "bytes of a model");
  const std::string kept = scanned(bytes.span, limits);
  within("parse_bytes", INT32_MAX, static_cast<int64_t>(kept.size()), "bytes to be parsed");
  const onnx::ModelProto model = parse(kept, limits);
  importer::Payloads payloads{bytes, importer::ExternalData(folder), limits};
  return importer::build_graph(model, ops, payloads, options);
}

// The folder that a path names its file in; "." for a bare name.
std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

Graph import_file(const std::string& path, const OpTable& ops, const ImportOptions& options) {
  const auto body = [&] {
    const Bytes bytes = read_file(path, options.limits.model_bytes, "model_bytes", path);
    return import_model(bytes, folder_of(path), ops, options);
  };
  return with_context([&] { return typed(body); }, "import of ", path);
}

Graph import_bytes(std::span<const std::byte> bytes, const OpTable& ops,
                   const ImportOptions& options) {
  const auto body = [&] {
    return import_model({bytes, nullptr}, options.external_data_dir, ops, options);
  };
  return with_context([&] { return typed(body); }, "import of a model in memory");
}

}  // namespace planck
