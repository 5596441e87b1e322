#include "ops/identity.h"

#include "ops/support.h"

namespace planck::ops {

void Identity::infer(Inference& call) const {
  set_type(call, 0, call.at(0).type.dtype, call.at(0).type.dims);
  set_contents(call, 0, contents_of(call, 0));
}
void Identity::reference(Evaluation& call) const { call.out[0] = call.at(0); }
PLANCK_OP(Identity, 21)

namespace {

[[noreturn]] void refuse_training() {
  throw UnsupportedError("Dropout in training mode is not supported");
}

}  // namespace

void Dropout::infer(Inference& call) const {
  need_float(kName, call, 0);
  set_type(call, 0, call.at(0).type.dtype, call.at(0).type.dims);
  if (call.out.size() > 1) set_type(call, 1, DType::b8, call.at(0).type.dims);
  if (!call.has(2)) return;
  need_bool(kName, call, 2);
  const auto training = numbers_of(call, 2);
  if (training && training->size() == 1 && (*training)[0] != 0) refuse_training();
}

void Dropout::reference(Evaluation& call) const {
  if (call.has(2) && integer("training_mode", call, 2) != 0) refuse_training();
  call.out[0] = call.at(0);
  if (call.out.size() < 2) return;
  call.out[1] = make_wide(DType::b8, call.at(0).shape);
  call.out[1].integer.assign(call.out[1].integer.size(), 1);
}
PLANCK_OP(Dropout, 22)

}  // namespace planck::ops
