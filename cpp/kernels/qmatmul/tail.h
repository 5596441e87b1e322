#pragma once
// Programs behind integer products that the kernels know themselves.
#include <optional>

#include "kernels/eltwise/eltwise.h"

namespace planck {

// quantize(after(act(before(v + (r - zero) * scale)))): each part may lack. r is operand 1, a
// tensor of bytes; act a ReLU, a GELU by erf or a hard swish; before and after y * scale + shift.
struct QmatmulTail {
  struct Affine {
    bool used = false;
    float scale = 1, shift = -0.0F;  // which leave every y as it is
  };
  bool residual = false, relu = false, gelu = false, hard_swish = false, quantize = false;
  Affine before, after;
  float residual_zero = 0, residual_scale = 1;
  float scale = 1, zero = 0;  // of what is stored: clamp(rne(x / scale) + zero, 0, 255)
};

// Nothing where the program is another one.
std::optional<QmatmulTail> tail_of(const EltProgram& program);

}  // namespace planck
