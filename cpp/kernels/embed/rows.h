#pragma once
#include "kernels/embed/embed.h"
#include "kernels/simd/row.h"

namespace planck {

using EmbedRow = KernelRow<EmbedArgs>;

std::span<const EmbedRow> embed_rows();
inline const EmbedRow& embed_row(std::string_view name) { return row_of_name(embed_rows(), name); }

// The first of `rows` output rows whose id lies outside [-table_rows, table_rows), or -1. For the
// check at the door, before anything runs.
int64_t first_bad_id(const EmbedIds& ids, int64_t rows, int64_t table_rows);

// The id of an output row, as it was given.
int64_t id_at(const EmbedIds& ids, int64_t row);

}  // namespace planck
