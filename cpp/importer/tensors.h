#pragma once
// TensorProto to Tensor: dims, type and payload must agree before a byte of it is read.
#include <string>

#include "importer/arena.h"
#include "importer/external_data.h"
#include "importer/importer.h"
#include "importer/onnx_proto.h"

namespace planck::importer {

// Where payloads are: in the model's own bytes and in the files that it names.
struct Payloads {
  Bytes model;
  ExternalData external;
  Limits limits;
  Arena copies = {};     // of payloads that cannot stay where they are
  int64_t embedded = 0;  // bytes of all constants so far that are no external data
};

// GraphError, ExternalDataError, LimitError; UnsupportedError for element types that we lack.
Tensor read_tensor(const onnx::TensorProto& proto, Payloads& payloads);

// Dense form of a sparse tensor.
Tensor read_sparse(const onnx::SparseTensorProto& proto, Payloads& payloads);

// The element type of an ONNX number; GraphError if ONNX has none, UnsupportedError if we have
// none.
DType element_type(int number);

}  // namespace planck::importer
