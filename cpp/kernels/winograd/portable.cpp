#include "kernels/simd/vec_portable.h"
// The vector header comes first: the family is written in its terms.
#include "kernels/winograd/winograd_impl.h"

namespace planck {

void winograd_f32_4x4_portable_input(const WinogradInput& in) { input(in); }
void winograd_f32_4x4_portable_output(const WinogradOutput& out) { output(out); }

}  // namespace planck
