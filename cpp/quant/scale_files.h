#pragma once
// Scale files of other tools, and our own, as Scales. Range and scale differ by 127: which of them
// a file holds follows from its format and never from the size of its numbers, and the first note
// says what was assumed.
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "quant/scales.h"

namespace planck {

inline constexpr int64_t kMostScaleBytes = 256 << 20;  // of a scale file

// A row of scale_formats.inc.
struct ScaleFormat {
  std::string_view kind;     // "trt_cache"
  std::string_view content;  // what its numbers are, for people
};
const std::vector<ScaleFormat>& scale_formats();

// The kind of these bytes by their format. ParseError where they are none of the kinds.
std::string scale_kind(std::string_view text);

// Tensors in the order of the file (JSON: of its names), names unique. A tensor without life (scale
// or range 0) gets the scale 1, the threshold 0 and the note "dead"; entries of unnamed layers and
// of other widths than 8 bits are left out and counted in a note. Names of QAT buffers stay as they
// are ("encoder.0._input_quantizer._amax"): which tensor they mean only a model can say.
// kind: "auto" or that of a row. UsageError for an unknown kind; ParseError where the text is not
// of it; CalibrationError for NaN, infinities, negative numbers, contradicting duplicates.
Scales read_scales(std::string_view text, const std::string& kind = "auto");

// The same for a file. FileError; LimitError above kMostScaleBytes.
Scales read_scales_file(const std::string& path, const std::string& kind = "auto");

// Scales as TensorRT's cache in their order. Grids for each channel, which belong to weights, are
// left out; a grid with a zero point is widened to the symmetric one that holds it.
std::string scales_to_trt_cache(const Scales& scales,
                                const std::string& header = "TRT-8600-EntropyCalibration2");

}  // namespace planck
