#include "ops/split.h"

#include "ops/support.h"

namespace planck::ops {

namespace {

void check_parts(const Split& op, bool lengths_given, size_t outputs) {
  if (op.num_outputs == 0) return;
  if (lengths_given) throw GraphError("Split: both split and num_outputs are given");
  if (op.num_outputs < 0 || static_cast<size_t>(op.num_outputs) != outputs) {
    throw GraphError("Split: num_outputs is ", op.num_outputs, ", but the node has ", outputs,
                     " outputs");
  }
}

std::vector<Dim> equal_parts(const Dim& extent, size_t outputs) {
  const auto count = static_cast<int64_t>(outputs);
  const Dim part = floordiv(extent + (count - 1), count);
  std::vector<Dim> parts(outputs, part);
  parts.back() = extent - part * Dim(count - 1);
  if (parts.back().is_constant() && parts.back().constant() < 0) {
    throw GraphError("Split: an extent of ", extent, " does not make ", count, " parts");
  }
  return parts;
}

void check_sum(const std::vector<Dim>& parts, const Dim& extent, size_t outputs) {
  if (parts.size() != outputs) {
    throw GraphError("Split: ", parts.size(), " lengths for ", outputs, " outputs");
  }
  Dim sum = 0;
  for (const Dim& d : parts) {
    if (d.is_constant() && d.constant() < 0)
      throw GraphError("Split: the length ", d, " is negative");
    sum = sum + d;
  }
  if (sum.is_constant() && extent.is_constant() && sum != extent) {
    throw GraphError("Split: lengths add up to ", sum, ", expected ", extent);
  }
}

}  // namespace

void Split::infer(Inference& call) const {
  need_rank(kName, call, 0, 1);
  const auto& data = call.at(0).type;
  const auto at = static_cast<size_t>(checked_axis(axis, data.rank()));
  check_parts(*this, call.has(1), call.out.size());
  Contents parts;
  if (!call.has(1)) {
    parts = equal_parts(data.dims[at], call.out.size());
  } else {
    need_integer(kName, call, 1);
    parts = contents_of(call, 1);
    if (parts) check_sum(*parts, data.dims[at], call.out.size());
  }
  const Contents contents = at == 0 && data.rank() == 1 ? contents_of(call, 0) : std::nullopt;
  const auto lengths = parts ? known_shape(*parts) : std::nullopt;
  int64_t from = 0;
  for (size_t i = 0; i < call.out.size(); ++i) {
    std::vector<Dim> dims = data.dims;
    dims[at] = parts ? (*parts)[i] : fresh_dim(call, i, at);
    set_type(call, i, data.dtype, std::move(dims));
    if (!contents || !lengths) continue;
    const auto first = contents->begin() + from;
    set_contents(call, i, std::vector<Dim>(first, first + (*lengths)[i]));
    from += (*lengths)[i];
  }
}

void Split::reference(Evaluation& call) const {
  const Wide& x = call.at(0);
  const auto at = static_cast<size_t>(checked_axis(axis, x.rank()));
  check_parts(*this, call.has(1), call.out.size());
  std::vector<Dim> parts = equal_parts(x.shape[at], call.has(1) ? 1 : call.out.size());
  if (call.has(1)) {
    const auto& given = integers(call, 1);
    parts.assign(given.begin(), given.end());
    check_sum(parts, x.shape[at], call.out.size());
  }
  int64_t from = 0;
  for (size_t i = 0; i < call.out.size(); ++i) {
    std::vector<Walk> walks = plain_walks(x.shape);
    walks[at].positions = counted(parts[i].constant(), from);
    call.out[i] = take(x, walk(walks));
    from += parts[i].constant();
  }
}
PLANCK_OP(Split, 18)

}  // namespace planck::ops
