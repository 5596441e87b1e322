#pragma once
// The heavy header, in one place; warnings inside it are not ours.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#include "onnx.pb.h"
#pragma GCC diagnostic pop
