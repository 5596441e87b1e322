#include "kernels/simd/vec_avx512.h"
// The vector header comes first: the family is written in its terms.
#include "kernels/recurrent/recurrent_impl.h"

namespace planck {

PLANCK_RECURRENT_CELLS(recurrent_f32_16_avx512)

}  // namespace planck
