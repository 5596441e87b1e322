#pragma once
// TensorRT's calibration cache as text:
//   TRT-<version>-<algorithm>
//   <tensor name>: <bits of the float32 scale in hexadecimal, most significant digit first>
// scale = threshold / 127. Names may hold colons, spaces and brackets, so a line is split at its
// last ": ". What a cache says is kept here as it stands; quant/scale_files.h makes Scales of it.
#include <string>
#include <string_view>
#include <vector>

namespace planck {

struct TrtEntry {
  std::string name;
  float scale = 0;  // finite, not negative; 0: the tensor was all zeros
};

struct TrtCache {
  std::string header;     // the first line
  std::string version;    // "8.6.0"
  std::string algorithm;  // "EntropyCalibration2"
  std::vector<TrtEntry> entries;
  std::vector<std::string> notes;  // what a reader should know: repeated lines, doubtful values
};

// Version and algorithm of a first line such as "TRT-8600-EntropyCalibration2". ParseError.
TrtCache read_trt_header(std::string_view line);

// Takes any version, 1 to 8 digits with or without 0x, CRLF and blank lines. ParseError for a
// missing header, decimal text and whatever else is no such line; CalibrationError for NaN,
// infinities, negative scales, contradicting duplicates, and for a file whose numbers make sense
// only with their bytes the other way round.
TrtCache read_trt_cache(std::string_view text);

// The header and the entries in their order, eight lower-case digits each. UsageError for a name
// with a line break and for a header that read_trt_header refuses.
std::string write_trt_cache(const TrtCache& cache);

}  // namespace planck
