#include "quant/calibration.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/nearest.h"

namespace planck {
namespace {

constexpr int64_t kPiece = int64_t{1} << 20;  // elements of one tile
constexpr double kExactDb = 400;              // stands for "no error at all"

// A stretch of a tensor of a batch; whole rows of channels.
struct Piece {
  const Observation* from = nullptr;
  TensorStatistics* tensor = nullptr;
  int64_t first = 0, count = 0;
  int64_t channels = 0, inner = 1;      // 0: no channel ranges
  std::optional<TensorStatistics> own;  // of all pieces of a tensor but the first
  TensorStatistics& statistics() { return own ? *own : *tensor; }
};

// Float32 of any float type; the buffer holds what had to be converted.
std::span<const float> as_floats(const Tensor& t, int64_t first, int64_t count,
                                 std::vector<float>& buffer) {
  const auto n = static_cast<size_t>(count);
  if (t.dtype() == DType::f32) return {t.as<float>() + first, n};
  buffer.resize(n);
  const auto convert = [&](auto* in, auto&& to_float) {
    for (size_t i = 0; i < n; ++i) buffer[i] = to_float(in[first + static_cast<int64_t>(i)]);
  };
  if (t.dtype() == DType::f16) {
    convert(t.as<uint16_t>(), half_to_float);
  } else if (t.dtype() == DType::bf16) {
    convert(t.as<uint16_t>(), bfloat_to_float);
  } else if (t.dtype() == DType::f64) {
    convert(t.as<double>(), [](double x) { return static_cast<float>(x); });
  } else {
    throw InternalError("statistics of ", t.dtype());
  }
  return buffer;
}

void find_channels(Piece& piece) {
  const TensorStatistics& t = *piece.tensor;
  const Shape& shape = piece.from->data.shape();
  if (!t.channels || shape.empty()) return;
  const size_t axis = t.axis < 0 ? shape.size() - 1 : static_cast<size_t>(t.axis);
  if (axis >= shape.size()) return;
  piece.channels = shape[axis];
  for (size_t d = axis + 1; d < shape.size(); ++d) piece.inner *= shape[d];
}

std::vector<Piece> pieces_of(std::span<const Observation> batch,
                             std::vector<TensorStatistics>& tensors) {
  std::vector<Piece> pieces;
  for (const Observation& o : batch) {
    Piece whole;
    whole.from = &o;
    whole.tensor = &tensors.at(o.tensor);
    find_channels(whole);
    const int64_t row = std::max<int64_t>(1, whole.channels * whole.inner);
    const int64_t step = (kPiece + row - 1) / row * row;
    for (int64_t first = 0; first < o.data.count(); first += step) {
      Piece& piece = pieces.emplace_back(whole);
      piece.first = first;
      piece.count = std::min(step, o.data.count() - first);
      if (first == 0) continue;
      piece.own.emplace();
      if (whole.tensor->equal) piece.own->equal.emplace().absmax = whole.tensor->equal->absmax;
    }
  }
  return pieces;
}

void collect(Piece& piece) {
  std::vector<float> buffer;
  const std::span<const float> x = as_floats(piece.from->data, piece.first, piece.count, buffer);
  Collector& collector = piece.statistics().collector;
  collector.add(x);
  if (piece.channels > 0) collector.add_channels(x, piece.channels, piece.inner);
}

void collect_equal(Piece& piece) {
  std::vector<float> buffer;
  piece.statistics().equal->add(as_floats(piece.from->data, piece.first, piece.count, buffer));
}

// Calls body(i) for each i of [0, count), on any thread.
template <class Body>
void for_each(int64_t count, Team& team, const Body& body) {
  const auto run = [](const void* args, int64_t tile, const Worker&) {
    (*static_cast<const Body*>(args))(tile);
  };
  const Job job{run, &body, count};
  if (count > 0) team.run({&job, 1}, {}, current_guard());
}

void check_finite(const TensorStatistics& t, int64_t before, int64_t batch) {
  const int64_t found = t.collector.histogram().nonfinite - before;
  if (found == 0) return;
  throw with(CalibrationError("tensor '", t.name, "' holds ", found,
                              " NaN or infinite elements in batch ", batch),
             {.expected = "finite numbers",
              .got = cat(found, " NaN or infinite"),
              .hint = "mend the data or the model, or pass nonfinite=\"ignore\""});
}

// --- solving ---

// Tensors that share a grid: one, or those of a group.
struct Unit {
  std::vector<const TensorStatistics*> tensors;
  Histogram merged;
  std::optional<EqualBins> equal;
};

struct Solution {
  TensorScale scale;  // without a name
  double error = 0, lost_db = 0, signal = 0;
};

std::vector<Unit> units_of(const std::vector<TensorStatistics>& tensors, bool shared) {
  std::vector<Unit> units;
  std::map<int64_t, size_t> by_group;
  for (const TensorStatistics& t : tensors) {
    if (shared && t.group >= 0) {
      const auto [at, fresh] = by_group.emplace(t.group, units.size());
      if (!fresh) {
        units[at->second].tensors.push_back(&t);
        continue;
      }
    }
    units.emplace_back().tensors.push_back(&t);
  }
  return units;
}

void merge_unit(Unit& unit) {
  Collector sum;
  for (const TensorStatistics* t : unit.tensors) {
    sum.merge(t->collector);
    if (!t->equal) continue;
    if (unit.equal && unit.equal->absmax == t->equal->absmax) {
      unit.equal->merge(*t->equal);
    } else if (!unit.equal) {
      unit.equal = t->equal;
    }
  }
  unit.merged = sum.histogram();
}

void check_data(const Unit& unit) {
  if (unit.merged.count > 0) return;
  const std::string& name = unit.tensors[0]->name;
  if (unit.merged.nonfinite == 0) throw CalibrationError("no data reached tensor '", name, "'");
  throw CalibrationError("tensor '", name, "' holds nothing but NaN and infinities");
}

QParams params_of(const Grid& grid) { return {grid.dtype, {grid.scale}, {grid.zero_point}}; }

std::string note_of(const Histogram& h) {
  constexpr double kFloor = 127 * static_cast<double>(std::numeric_limits<float>::min());
  if (h.absmax() == 0) return "dead";
  if (h.absmax() < kFloor) return "tiny: the scale is the smallest normal number";
  return h.min == h.max ? "constant" : "";
}

// One candidate: a threshold for a grid of this type, and what it costs.
struct Candidate {
  Grid grid;
  double threshold = 0, error = 0;
};

Candidate candidate(const Evidence& evidence, const SolveOptions& options, const Calibrator& row,
                    DType dtype) {
  const bool constant = evidence.data.min == evidence.data.max;
  const double threshold = constant ? evidence.data.absmax() : row.solve(evidence, options, dtype);
  const Grid grid = grid_of(dtype, threshold, evidence.data);
  return {grid, threshold, evidence.error(grid)};
}

Candidate choose(const Evidence& evidence, const SolveOptions& options, const Calibrator& row) {
  constexpr double kWorth = 0.5;  // dB that a zero point has to gain
  if (options.activation == "s8") return candidate(evidence, options, row, DType::s8);
  Candidate u8 = candidate(evidence, options, row, DType::u8);
  if (options.activation == "u8") return u8;
  Candidate s8 = candidate(evidence, options, row, DType::s8);
  return decibel_lost(s8.error, u8.error) > kWorth ? u8 : s8;
}

Solution solved(const Unit& unit, const SolveOptions& options) {
  check_data(unit);
  const GridError error(unit.merged);
  const Evidence evidence{unit.merged, unit.equal ? &*unit.equal : nullptr, error};
  Solution solution;
  solution.scale.note = note_of(unit.merged);
  solution.signal = error.signal();
  if (unit.merged.absmax() == 0) {
    solution.scale.params = params_of({options.activation == "u8" ? DType::u8 : DType::s8});
    solution.scale.threshold = 0;
    return solution;
  }
  const auto* row = std::ranges::find(calibrators(), options.method, &Calibrator::name).base();
  const Candidate best = choose(evidence, options, *row);
  solution.scale.params = params_of(best.grid);
  solution.scale.threshold = best.threshold;
  solution.error = best.error;
  if (!row->by_type) {
    solution.lost_db = decibel_lost(best.error, least_error(evidence, best.grid.dtype).error);
  }
  return solution;
}

TensorReport report_row(const TensorStatistics& t, const Solution& solution) {
  const Histogram& h = t.collector.histogram();
  TensorReport row{solution.scale, h.count, h.zeros, h.nonfinite};
  row.scale.name = t.name;
  row.min = h.count > 0 ? h.min : 0;
  row.max = h.count > 0 ? h.max : 0;
  row.clipped = h.count > 0 ? share_above(magnitudes(h), solution.scale.threshold) : 0;
  row.sqnr_db = solution.error > 0 ? 10 * std::log10(solution.signal / solution.error) : kExactDb;
  row.lost_db = solution.lost_db;
  row.group = t.group;
  return row;
}

void add_notes(const CalibrationFacts& facts, const std::vector<TensorReport>& rows,
               const SolveOptions& options, std::vector<std::string>& notes) {
  constexpr int64_t kEnough = 32;  // samples
  constexpr double kMuch = 3;      // dB
  if (facts.samples < kEnough) {
    notes.push_back(cat("only ", facts.samples, " samples; ", kEnough, " or more are usual"));
  }
  if (options.method == "legacy") {
    notes.push_back(cat("legacy: quantile ", options.quantile, ", cutoff ", options.cutoff,
                        " (recorded, without effect)"));
  }
  for (const TensorReport& row : rows) {
    if (row.lost_db > kMuch) {
      notes.push_back(cat("tensor '", row.scale.name, "' loses ", std::round(row.lost_db * 10) / 10,
                          " dB by ", options.method, " against mse"));
    }
    if (row.nonfinite > 0) {
      notes.push_back(cat("tensor '", row.scale.name, "' held ", row.nonfinite,
                          " NaN or infinite elements, which were left out"));
    }
  }
}

// --- merging ---

void expect_same(const char* what, const auto& ours, const auto& theirs) {
  if (ours == theirs) return;
  throw with(CalibrationError("calibrations cannot be merged: ", what, " is ", ours, " here, ",
                              theirs, " there"),
             {.expected = cat(ours), .got = cat(theirs)});
}

void expect_same_options(const CalibrationFacts& a, const CalibrationFacts& b) {
  expect_same("the model's hash", a.model_hash, b.model_hash);
  expect_same("method", a.solve.method, b.solve.method);
  expect_same("percentile", a.solve.percentile, b.solve.percentile);
  expect_same("zero_policy", a.solve.zero_policy, b.solve.zero_policy);
  expect_same("nonfinite", a.nonfinite, b.nonfinite);
  expect_same("exact", a.exact, b.exact);
}

}  // namespace

void Calibration::observe(std::span<const Observation> batch, int64_t samples, int64_t bytes,
                          Team& team) {
  std::vector<int64_t> before;
  for (const Observation& o : batch) {
    before.push_back(tensors.at(o.tensor).collector.histogram().nonfinite);
  }
  std::vector<Piece> pieces = pieces_of(batch, tensors);
  for_each(static_cast<int64_t>(pieces.size()), team,
           [&](int64_t i) { collect(pieces[static_cast<size_t>(i)]); });
  for (Piece& piece : pieces) {
    if (piece.own) piece.tensor->collector.merge(piece.own->collector);
  }
  for (size_t i = 0; i < batch.size() && facts.nonfinite == "error"; ++i) {
    check_finite(tensors[batch[i].tensor], before[i], facts.batches);
  }
  ++facts.batches;
  facts.samples += samples;
  facts.bytes += bytes;
}

void Calibration::start_second_pass() {
  for (Unit& unit : units_of(tensors, true)) {
    merge_unit(unit);
    for (const TensorStatistics* t : unit.tensors) {
      tensors[static_cast<size_t>(t - tensors.data())].equal.emplace().absmax =
          unit.merged.absmax();
    }
  }
}

void Calibration::observe_again(std::span<const Observation> batch, Team& team) {
  std::vector<Piece> pieces = pieces_of(batch, tensors);
  for_each(static_cast<int64_t>(pieces.size()), team,
           [&](int64_t i) { collect_equal(pieces[static_cast<size_t>(i)]); });
  for (Piece& piece : pieces) {
    if (piece.own) piece.tensor->equal->merge(*piece.own->equal);
  }
}

void Calibration::merge(const Calibration& other) {
  expect_same_options(facts, other.facts);
  expect_same("the number of tensors", tensors.size(), other.tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    const TensorStatistics &a = tensors[i], &b = other.tensors[i];
    expect_same("a tensor", a.name, b.name);
    expect_same(cat("the group of '", a.name, "'").c_str(), a.group, b.group);
    if (a.equal && b.equal && a.equal->absmax != b.equal->absmax) {
      throw CalibrationError(
          "calibrations with exact=True cannot be merged where ranges differ: "
          "tensor '",
          a.name, "' reaches ", a.equal->absmax, " here, ", b.equal->absmax, " there");
    }
  }
  for (size_t i = 0; i < tensors.size(); ++i) {
    tensors[i].collector.merge(other.tensors[i].collector);
    if (tensors[i].equal && other.tensors[i].equal) {
      tensors[i].equal->merge(*other.tensors[i].equal);
    }
  }
  facts.samples += other.facts.samples;
  facts.batches += other.facts.batches;
  facts.bytes += other.facts.bytes;
}

std::vector<TensorReport> Calibration::report(const SolveOptions& options, Team& team) const {
  check_options(options);
  std::vector<Unit> units = units_of(tensors, options.shared_ranges == "auto");
  std::vector<Solution> solutions(units.size());
  for_each(static_cast<int64_t>(units.size()), team, [&](int64_t i) {
    Unit& unit = units[static_cast<size_t>(i)];
    merge_unit(unit);
    solutions[static_cast<size_t>(i)] = solved(unit, options);
  });
  std::vector<TensorReport> rows(tensors.size());
  for (size_t u = 0; u < units.size(); ++u) {
    for (const TensorStatistics* t : units[u].tensors) {
      rows[static_cast<size_t>(t - tensors.data())] = report_row(*t, solutions[u]);
    }
  }
  return rows;
}

Scales Calibration::solve(const SolveOptions& options, Team& team) const {
  const std::vector<TensorReport> rows = report(options, team);
  Scales scales{"calibration", options.method, facts.model_hash, {}, {}};
  for (const TensorReport& row : rows) scales.tensors.push_back(row.scale);
  add_notes(facts, rows, options, scales.notes);
  return scales;
}

const TensorStatistics& Calibration::tensor(const std::string& name) const {
  const auto found = std::ranges::find(tensors, name, &TensorStatistics::name);
  if (found != tensors.end()) return *found;
  std::vector<std::string> names;
  for (const TensorStatistics& t : tensors) names.push_back(t.name);
  throw with(UsageError("no tensor '", name, "' was observed"),
             {.expected = joined(nearest_names(name, names)), .got = name});
}

}  // namespace planck
