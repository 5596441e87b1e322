#pragma once
// AttributeProto to the JSON that an op's strict reader takes.
#include "importer/draft.h"
#include "importer/tensors.h"

namespace planck::importer {

using AttributeType = onnx::AttributeProto::AttributeType;

// The declared type, or for very old files the one field that is filled. GraphError where they
// disagree.
AttributeType type_of(const onnx::AttributeProto& attribute);

// Puts a plain or tensor attribute into the draft. GraphError for what no op of ours takes.
void add_attribute(Draft& draft, const onnx::AttributeProto& attribute, Payloads& payloads);

// The tensor of a Constant node, from whichever attribute gives it.
Tensor constant_value(const Draft& draft);

}  // namespace planck::importer
