#pragma once
// Fused attention: out = softmax(scale * Q x K^T + mask) x V for every (batch item, head).
// Softmax is of whole rows: subtract the largest score, exp, divide by the sum, all in fp32. A row
// gives the same bits in whatever batch, head count or block of rows it stands. Keys that a mask
// hides from all rows of a tile are left out where nobody can tell (live_keys.h).
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/device.h"
#include "base/dtype.h"
#include "kernels/attention/softmax_row.h"
#include "kernels/eltwise/eltwise.h"
#include "kernels/jit/block.h"
#include "kernels/job.h"

namespace planck {

struct AttentionProblem {
  DType dtype = DType::f32;
  int64_t batch = 1, heads = 1, lq = 1, lk = 1, d = 1, dv = 1;
};

struct AttentionRow {
  std::string_view name;
  DType dtype;
  int tile_m, tile_n;
  Isa isa;
  double ops_per_cycle;
  PackKeysFn pack_keys;
  PackValuesFn pack_values;
  SoftmaxRowsFn softmax_rows;
  ScaleRowsFn scale_rows;
  MarkKeysFn mark_keys;
  LargestFn largest;
};

std::span<const AttentionRow> attention_rows();
const AttentionRow& attention_row(std::string_view name);  // UsageError where there is none
std::string why_not(const AttentionRow& row, const AttentionProblem& problem, const Device& device);
double prior_cycles(const AttentionRow& row, const AttentionProblem& problem);

// Strides count elements; the last axis (d or dv) is contiguous.
struct HeadStrides {
  int64_t batch = 0, head = 0, row = 0;
};

// Shapes and strides must not change after plan_attention; pointers may, between runs.
struct AttentionArgs {
  int64_t batch = 1, heads = 1, lq = 0, lk = 0, d = 0, dv = 0;
  const float *q = nullptr, *k = nullptr, *v = nullptr;
  float* out = nullptr;
  HeadStrides q_strides, k_strides, v_strides, out_strides;
  float scale = 1;
  const float* mask = nullptr;  // added to the scaled scores; a stride of 0 repeats it
  int64_t mask_batch = 0, mask_head = 0, mask_row = 0, mask_key = 0;
  // A row of -inf only gives zeros, and a mask of -inf hides NaN and inf too; else what the formula
  // says, which is NaN.
  bool masked_rows_zero = false;
  // What becomes of the result: operand 0 of the program; f32 to out, bytes to out_bytes.
  const EltProgram* program = nullptr;
  uint8_t* out_bytes = nullptr;
  EltType bytes_type = EltType::u8;

  // Filled by plan_attention.
  struct Plan {
    const AttentionRow* row = nullptr;
    int64_t block = 0, blocks = 0;  // query rows of one tile; tiles of one head
    int64_t strip = 0;              // query rows whose scores are held at a time
    int64_t pitch = 0;              // of the scores
    int64_t scratch_bytes = 0;
    EltStripFn strip_program = nullptr;  // runs the program on a strip in scratch
    jit::GemmTile keys, values;          // whose panels each is packed in
  } plan;
};

// Generates the kernels and returns the job whose args is `args` itself; tiles are
// (batch item, head, block of query rows).
Job plan_attention(const AttentionRow& row, AttentionArgs& args);
inline int64_t scratch_bytes(const AttentionArgs& args) { return args.plan.scratch_bytes; }

}  // namespace planck
