#pragma once
#include <string>

#include "ops/declare.h"

namespace planck::ops {

// Input [N,C,H,W]. Depth to space: blocks of channels become blocks of pixels, in the order "DCR"
// (block row, block column, channel) or "CRD".
struct DepthToSpace {
  PLANCK_OP_FACTS(DepthToSpace, exact, 1, 1)
  int64_t blocksize = 0;
  std::string mode = "DCR";
  static void fields(auto& self, auto&& visit) {
    visit("blocksize", self.blocksize);
    visit("mode", self.mode);
  }
};

struct SpaceToDepth {  // back, from the order DCR
  PLANCK_OP_FACTS(SpaceToDepth, exact, 1, 1)
  int64_t blocksize = 0;
  std::string mode = "DCR";
  static void fields(auto& self, auto&& visit) {
    visit("blocksize", self.blocksize);
    visit("mode", self.mode);
  }
};

// Inputs: data, lengths. The first length[b] steps along time_axis of batch b are reversed.
struct ReverseSequence {
  PLANCK_OP_FACTS(ReverseSequence, exact, 2, 2)
  int64_t batch_axis = 1, time_axis = 0;
  static void fields(auto& self, auto&& visit) {
    visit("batch_axis", self.batch_axis);
    visit("time_axis", self.time_axis);
  }
};

struct EyeLike {  // ones on the k-th diagonal of a matrix as large as the input
  PLANCK_OP_FACTS(EyeLike, exact, 1, 1)
  int64_t dtype = 0;  // ONNX number; 0: the input's
  int64_t k = 0;
  static void fields(auto& self, auto&& visit) {
    visit("dtype", self.dtype);
    visit("k", self.k);
  }
};

}  // namespace planck::ops
