#include "kernels/embed/rows.h"

#include "base/checked.h"
#include "kernels/embed/embed_ids.h"

namespace planck {
namespace {

#define PLANCK_EMBED(name, isa) static_assert(std::string_view(#name) == "embed_f32_64_" #isa);
#include "kernels/embed/kernels.inc"
#undef PLANCK_EMBED

int64_t tiles(const EmbedArgs& args) { return ceil_div(args.rows, rows_of_tile(args)); }

}  // namespace

std::span<const EmbedRow> embed_rows() {
  static constexpr EmbedRow kRows[] = {
#define PLANCK_EMBED(name, isa) {#name, Isa::isa, 0, tiles, name},
#include "kernels/embed/kernels.inc"
#undef PLANCK_EMBED
  };
  return kRows;
}

int64_t id_at(const EmbedIds& ids, int64_t row) { return read_id(ids, row); }

int64_t first_bad_id(const EmbedIds& ids, int64_t rows, int64_t table_rows) {
  for (int64_t row = 0; row < rows; ++row) {
    if (table_row(read_id(ids, row), table_rows) < 0) return row;
  }
  return -1;
}

}  // namespace planck
