#pragma once
// Statistics of a model's tensors over a data set, and the grids that follow from them.
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/team.h"
#include "quant/calibrators.h"
#include "quant/scales.h"

namespace planck {

struct TensorStatistics {
  std::string name;
  int64_t group = -1;     // tensors of one group may share a grid; -1: alone
  bool channels = false;  // whether channel ranges are wanted
  int64_t axis = -1;      // of the channels, as batches lie: 1 or -1
  Collector collector;
  std::optional<EqualBins> equal;  // after the second pass
  bool operator==(const TensorStatistics&) const = default;
};

// What was done, for reports and so that only equals are merged.
struct CalibrationFacts {
  std::string engine;               // version that collected; set when it is written
  std::string model_hash;           // SHA-256 of the model file
  SolveOptions solve;               // defaults of solve()
  std::string nonfinite = "error";  // or "ignore"
  bool exact = false;               // two passes
  int64_t samples = 0, batches = 0, bytes = 0;
  std::vector<std::string> skipped;  // asked for, but not of a float type
  bool operator==(const CalibrationFacts&) const = default;
};

// One tensor of one batch. `shape` is read for channel ranges only.
struct Observation {
  size_t tensor = 0;  // of Calibration::tensors
  Tensor data;        // of any float type; doubles are rounded to float32
};

// A row of the report.
struct TensorReport {
  TensorScale scale;
  int64_t count = 0, zeros = 0, nonfinite = 0;
  double min = 0, max = 0;
  double clipped = 0;  // share of the elements beyond the threshold
  double sqnr_db = 0;  // expected; 400 where nothing is lost
  double lost_db = 0;  // against the least error of a grid of this type
  int64_t group = -1;
};

class Calibration {
 public:
  CalibrationFacts facts;
  std::vector<TensorStatistics> tensors;  // in the model's order

  // Adds a batch. Bits do not depend on the team. CalibrationError for NaN or infinities, naming
  // the tensor and the batch, unless facts.nonfinite is "ignore".
  void observe(std::span<const Observation> batch, int64_t samples, int64_t bytes, Team& team);
  // Fixes the ranges of the second pass; then observe_again with the same data.
  void start_second_pass();
  void observe_again(std::span<const Observation> batch, Team& team);

  // Sums. CalibrationError names what differs: model, options, tensors.
  void merge(const Calibration& other);

  // CalibrationError names a tensor that no data reached; UsageError for options.
  std::vector<TensorReport> report(const SolveOptions& options, Team& team) const;
  Scales solve(const SolveOptions& options, Team& team) const;

  const TensorStatistics& tensor(const std::string& name) const;  // UsageError
};

// --- the file; see calibration_file.cpp for the bytes ---
inline constexpr uint32_t kCalibrationVersion = 1;
void write_calibration(const Calibration& calibration, const ByteSink& sink);
// CorruptError, VersionError.
Calibration read_calibration(std::span<const std::byte> bytes);
void save_calibration(const Calibration& calibration, const std::string& path);  // FileError
Calibration load_calibration(const std::string& path);

}  // namespace planck
