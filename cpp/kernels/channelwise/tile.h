#pragma once
// Which outputs a tile has. Inlined always, since ISA files include it.
#include <cstdint>

#include "kernels/channelwise/channelwise.h"

namespace planck {

struct ChannelwiseTile {
  int64_t first_line, last_line;  // of the output, those of all images in a row
  int64_t first, last;            // places of each
};

// Bands of lines of an image, pieces of a band.
[[gnu::always_inline]] inline ChannelwiseTile tile_of(const ChannelwiseArgs& a, int64_t tile) {
  const int64_t pieces = (a.columns.out + a.places - 1) / a.places;
  const int64_t bands = (a.rows.out + a.lines - 1) / a.lines;
  const int64_t band = tile / pieces % bands, image = tile / pieces / bands;
  const int64_t first = tile % pieces * a.places, line = band * a.lines;
  const int64_t last = first + a.places, end = line + a.lines;
  return {image * a.rows.out + line, image * a.rows.out + (end < a.rows.out ? end : a.rows.out),
          first, last < a.columns.out ? last : a.columns.out};
}

}  // namespace planck
