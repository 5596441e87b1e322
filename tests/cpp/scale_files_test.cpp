// Scale files: every format read, every usual fault of a writer refused with its reason.
#include "quant/scale_files.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <functional>
#include <random>

#include "base/error.h"
#include "quant/trt_cache.h"

namespace planck {
namespace {

constexpr const char* kHeader = "TRT-8600-EntropyCalibration2\n";

float bits(uint32_t value) { return std::bit_cast<float>(value); }

std::string cache(const std::string& lines) { return kHeader + lines; }

// What the error of `body` says, all fields in one text; empty where there is none.
template <class E>
std::string failure(const std::function<void()>& body) {
  try {
    body();
  } catch (const E& e) {
    return cat(e.what(), " | ", e.fields.expected, " | ", e.fields.got, " | ", e.fields.hint);
  }
  return "";
}

template <class E>
std::string failure(const std::string& text, const std::string& kind = "auto") {
  return failure<E>([&] { read_scales(text, kind); });
}

bool says(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

bool notes_say(const Scales& scales, const std::string& part) {
  for (const std::string& note : scales.notes) {
    if (says(note, part)) return true;
  }
  return false;
}

TEST(TrtCache, FixturesOfRealCaches) {
  const struct {
    const char* digits;
    float scale;
    double threshold;
  } rows[] = {{"4000890a", 2.0083642F, 255.06225},
              {"3caa54fc", 0.020792477F, 2.6406446},
              {"3c008912", 0.0078451801F, 0.99633787},
              {"3c010204", 0.0078740157F, 1.0}};
  for (const auto& row : rows) {
    const Scales scales = read_scales(cache(cat("x: ", row.digits, "\n")));
    ASSERT_EQ(scales.tensors.size(), 1U);
    EXPECT_EQ(scales.tensors[0].params.scale, std::vector<float>{row.scale}) << row.digits;
    EXPECT_NEAR(scales.tensors[0].threshold, row.threshold, 1e-7 * row.threshold) << row.digits;
    EXPECT_EQ(scales_to_trt_cache(scales), cache(cat("x: ", row.digits, "\n")));
  }
}

// The last candidate of the entropy search lies half a bin of 2048 above the largest value.
TEST(TrtCache, EncoderFixtures) {
  const double half_bin = 1 + 0.5 / 2048;
  const auto digits = [](double threshold) {
    Scales scales;
    TensorScale& x = scales.tensors.emplace_back();
    x.name = "x";
    x.params = {.scale = {symmetric_scale(threshold)}, .zero_point = {0}};
    return scales_to_trt_cache(scales).substr(std::string(kHeader).size());
  };
  EXPECT_EQ(digits(255 * half_bin), "x: 4000890a\n");
  EXPECT_EQ(digits(2.64 * half_bin), "x: 3caa54fc\n");
  EXPECT_EQ(digits(255.0 / 256 * half_bin), "x: 3c00890a\n");
  EXPECT_EQ(digits(1.0), "x: 3c010204\n");
}

TEST(TrtCache, NamesAreSplitAtTheLastColonAndBlank) {
  const TrtCache c =
      read_trt_cache(cache("a:0: 3c010204\r\n\r\n  b [1]: c: 0x3C010204  \nd e: 0\nf: 1\n"));
  ASSERT_EQ(c.entries.size(), 4U);
  EXPECT_EQ(c.entries[0].name, "a:0");
  EXPECT_EQ(c.entries[1].name, "  b [1]: c");
  EXPECT_EQ(c.entries[2].scale, 0);
  EXPECT_EQ(c.entries[3].scale, bits(1));
}

TEST(TrtCache, AnyVersion) {
  const struct {
    const char *line, *version, *algorithm;
  } rows[] = {{"TRT-6001-EntropyCalibration", "6.0.1", "EntropyCalibration"},
              {"TRT-7103-EntropyCalibration2", "7.1.3", "EntropyCalibration2"},
              {"TRT-8502-MinMaxCalibration", "8.5.2", "MinMaxCalibration"},
              {"TRT-8600-LegacyCalibration", "8.6.0", "LegacyCalibration"},
              {"TRT-100300-EntropyCalibration2", "10.3.0", "EntropyCalibration2"}};
  for (const auto& row : rows) {
    const TrtCache c = read_trt_header(row.line);
    EXPECT_EQ(c.version, row.version);
    EXPECT_EQ(c.algorithm, row.algorithm);
  }
  const Scales scales = read_scales("TRT-8502-MinMaxCalibration\nx: 3c010204\n");
  EXPECT_EQ(scales.method, "minmax");
  EXPECT_TRUE(notes_say(scales, "TensorRT 8.5.2"));
}

TEST(TrtCache, BytesSurviveTheRound) {
  const std::string text =
      cache("input: 4000890a\na:0: 3caa54fc\nb [1]: c: 3c008912\ndead: 00000000\n");
  EXPECT_EQ(write_trt_cache(read_trt_cache(text)), text);
  EXPECT_EQ(scales_to_trt_cache(read_scales(text)), text);
}

TEST(TrtCache, DeadAndUnnamed) {
  const Scales scales =
      read_scales(cache("x: 0\n(Unnamed Layer* 174) [Constant]_output: 3c010204\n"));
  ASSERT_EQ(scales.tensors.size(), 1U);
  EXPECT_EQ(scales.tensors[0].note, "dead");
  EXPECT_EQ(scales.tensors[0].params.scale[0], 1);
  EXPECT_EQ(scales.tensors[0].threshold, 0);
  EXPECT_TRUE(notes_say(scales, "1 entries of unnamed layers"));
  EXPECT_TRUE(notes_say(scales, "1 tensors have the scale 0"));
}

TEST(TrtCache, RepeatedLines) {
  EXPECT_TRUE(notes_say(read_scales(cache("x: 3c010204\nx: 3c010204\n")), "1 lines repeat"));
  EXPECT_TRUE(says(failure<CalibrationError>(cache("x: 3c010204\nx: 3c010205\n")), "two scales"));
}

TEST(TrtCache, NumbersThatAreNoScales) {
  for (const char* digits : {"7fc00000", "7f800000", "ff800000", "bc010204", "80000000"}) {
    EXPECT_TRUE(says(failure<CalibrationError>(cache(cat("y: 3c010204\nx: ", digits, "\n"))),
                     "the scale of 'x'"))
        << digits;
  }
  for (const char* digits : {"3c0102040", "3g", "", "-1", "3c 04", "0x"}) {
    EXPECT_NE(failure<ParseError>(cache(cat("x: ", digits, "\n"))), "") << digits;
  }
}

TEST(TrtCache, LittleEndianIsExplained) {
  const std::string text = failure<CalibrationError>(cache("a: 0a890040\nb: fc54aa3c\n"));
  EXPECT_TRUE(says(text, "little-endian")) << text;
  EXPECT_TRUE(says(text, "2.00836")) << text;
  EXPECT_TRUE(says(text, "'>f'")) << text;
  // One small number among good ones is no fault of the writer.
  EXPECT_EQ(read_scales(cache("a: 0a890040\nb: 3c010204\nc: 3c010204\n")).tensors.size(), 3U);
}

TEST(TrtCache, DecimalTextIsExplained) {
  for (const char* number : {"0.0207", "1e-3", "2.0083642"}) {
    EXPECT_TRUE(says(failure<ParseError>(cache(cat("a: ", number, "\n"))), "decimal text"));
  }
}

TEST(TrtCache, RangesInPlaceOfScalesAreNoted) {
  const Scales scales = read_scales(cache("a: 41200000\nb: 40a00000\nc: 3f800001\n"));
  EXPECT_TRUE(notes_say(scales, "ranges in place of scales"));
  EXPECT_EQ(scales.tensors[0].params.scale[0], 10);  // the format decides, never the size
  EXPECT_FALSE(notes_say(read_scales(cache("a: 4000890a\nb: 3caa54fc\n")), "ranges in place"));
}

TEST(TrtCache, HeadersThatAreNone) {
  for (const char* line : {"TRT-86x0-EntropyCalibration2", "TRT-8600-Entropy", "TRT-8600", "TRT-",
                           "TRT--EntropyCalibration2", "TRT-99999999999-EntropyCalibration2"}) {
    EXPECT_TRUE(says(failure<ParseError>(cat(line, "\nx: 3c010204\n"), "trt_cache"), "first line"))
        << line;
  }
  EXPECT_TRUE(says(failure<ParseError>("x: 3c010204\ny: 3c01020a\n"), "which is missing"));
  TrtCache written;
  written.header = "TRT-8";
  EXPECT_TRUE(says(failure<UsageError>([&] { write_trt_cache(written); }), "header"));
  written.header = "TRT-8600-LegacyCalibration";
  written.entries = {{"a\nb", 1}};
  EXPECT_NE(failure<UsageError>([&] { write_trt_cache(written); }), "");
}

TEST(ScaleFiles, RangeOrScaleFollowsFromTheFormat) {
  const struct {
    const char *kind, *text;
    float scale;
  } rows[] = {{"tao", R"({"tensor_scales": {"x": 2.54}})", 0.02F},
              {"cudla", R"({"int8_tensor_scales": {"x": 2.54}, "fp16_nodes": ["n"]})", 2.54F},
              {"mqbench", R"({"blob_range": {"x": 2.54}})", 0.02F},
              {"mqbench", R"({"blob_range": {"x": [-2.54, 1]}})", 0.02F},
              {"sample_int8", "x: 2.54\n", 0.02F},
              {"ort_text", "x 2.54\n", 0.02F},
              {"ort_text", "x -2.54\n", 0.02F},
              {"ort_json", R"({"x": {"lowest": {"data": -2.54, "dtype": "float32",
                "CLS": "numpy.array"}, "highest": {"data": [1.0]}, "CLS": "TensorData"}})",
               0.02F},
              {"aimet", R"({"activation_encodings": {"x": [{"scale": 2.54, "offset": -128,
                "bitwidth": 8, "is_symmetric": "True"}]}})",
               2.54F},
              {"qat_amax", R"({"x._input_quantizer._amax": 2.54})", 0.02F},
              {"lsq", R"({"x": {"scale": 2.54, "qmin": -128, "qmax": 127}})", 2.54F}};
  for (const auto& row : rows) {
    EXPECT_EQ(scale_kind(row.text), row.kind);
    const Scales scales = read_scales(row.text);
    EXPECT_EQ(scales.kind, row.kind);
    ASSERT_EQ(scales.tensors.size(), 1U) << row.kind;
    EXPECT_FLOAT_EQ(scales.tensors[0].params.scale[0], row.scale) << row.kind;
    EXPECT_TRUE(scales.tensors[0].name.starts_with("x")) << row.kind;
    EXPECT_TRUE(notes_say(scales, cat("taken for ", row.kind))) << row.kind;
    EXPECT_EQ(read_scales(row.text, row.kind).tensors.size(), 1U) << row.kind;
  }
}

TEST(ScaleFiles, TextSplitsAtTheLastSeparator) {
  EXPECT_EQ(read_scales("a b: c: 1\n").tensors[0].name, "a b: c");
  EXPECT_EQ(read_scales("a b 1.0\nc 2\n").tensors[0].name, "a b");
  EXPECT_TRUE(says(failure<CalibrationError>("a: 1\na: 2\n"), "two ranges"));
  EXPECT_TRUE(notes_say(read_scales("a 1.0\nc -2\n"), "1 ranges are negative"));
  EXPECT_TRUE(notes_say(read_scales("a 1.0\n"), "without their signs"));
}

TEST(ScaleFiles, OnnxRuntimeJson) {
  const Scales scales = read_scales(R"({"CLS": "TensorsData", "calibration_method":
    {"CLS": "CalibrationMethod", "value": "CalibrationMethod.MinMax"}, "data":
    {"x": {"lowest": {"data": [-5.0, 0.5]}, "highest": {"data": [1.0, 2.0]}, "CLS": "TensorData"},
     "y": {"lowest": 0, "highest": 0, "CLS": "TensorData"}}})");
  EXPECT_EQ(scales.method, "minmax");
  EXPECT_EQ(scales.tensors[0].threshold, 5);  // both ends count here
  EXPECT_EQ(scales.tensors[1].note, "dead");
  EXPECT_NE(failure<ParseError>(R"({"CLS": "TensorsData", "data": {"x": {"lowest": 1}}})"), "");
}

TEST(ScaleFiles, AimetOffsetsAndWidths) {
  const Scales scales = read_scales(R"({"activation_encodings": [
    {"name": "x", "bw": 8, "dtype": "INT", "is_sym": false, "scale": [0.5], "offset": [-3]},
    {"name": "wide", "bw": 16, "dtype": "INT", "scale": [0.5], "offset": [-3]}],
    "param_encodings": {"w": [{"scale": 0.1, "offset": -128, "bitwidth": 8, "is_symmetric": "True"},
                              {"scale": 0.2, "offset": -128, "bitwidth": 8, "is_symmetric": "True"}],
      "layer": {"input": {"0": {"scale": 1}}}}})");
  ASSERT_EQ(scales.tensors.size(), 2U);
  const QParams& x = scales.tensors[0].params;
  EXPECT_EQ(x.dtype, DType::u8);
  EXPECT_EQ(x.zero_point, std::vector<int32_t>{3});
  const QParams& w = scales.tensors[1].params;
  EXPECT_EQ(w.dtype, DType::s8);
  EXPECT_EQ(w.axis, 0);
  EXPECT_EQ(w.scale, (std::vector<float>{0.1F, 0.2F}));
  EXPECT_TRUE(notes_say(scales, "1 encodings are no integers of 8 bits"));
  EXPECT_TRUE(notes_say(scales, "1 encodings are named by PyTorch's layers"));
  EXPECT_NE(failure<CalibrationError>(R"({"activation_encodings": {"x": [{"scale": 1,
    "offset": -300, "bitwidth": 8}]}})"),
            "");
}

TEST(ScaleFiles, StepSizesPerChannel) {
  const Scales scales = read_scales(R"({
    "w": {"step_size": [0.1, 0.2], "qmin": -127, "qmax": 127, "axis": 1},
    "x": {"scale": 0.5, "qmin": 0, "qmax": 255, "zero_point": 7},
    "four": {"scale": 0.5, "qmin": -8, "qmax": 7}})");
  ASSERT_EQ(scales.tensors.size(), 2U);
  EXPECT_EQ(scales.tensors[0].params.axis, 1);
  EXPECT_EQ(scales.tensors[1].params.dtype, DType::u8);
  EXPECT_EQ(scales.tensors[1].params.zero_point[0], 7);
  EXPECT_TRUE(notes_say(scales, "1 entries have other bounds"));
  EXPECT_NE(failure<CalibrationError>(
                R"({"x": {"scale": 1, "qmin": 0, "qmax": 255, "zero_point": 256}})"),
            "");
}

TEST(ScaleFiles, OurOwn) {
  const Scales scales = read_scales(R"({"format": "planck.scales", "version": 1,
    "kind": "calibration", "method": "mse", "model_hash": "ab", "notes": ["n"], "tensors":
    [{"name": "x", "dtype": "u8", "scale": [0.1], "zero_point": [5], "axis": null,
      "threshold": null, "note": "m"},
     {"name": "y", "dtype": "s8", "scale": [0.5, 2], "zero_point": [0, 0], "axis": 1,
      "threshold": 2.5, "note": ""}]})");
  EXPECT_EQ(scales.kind, "calibration");
  EXPECT_EQ(scales.method, "mse");
  EXPECT_EQ(scales.notes, std::vector<std::string>{"n"});
  EXPECT_EQ(scales.tensors[0].params.scale[0], 0.1F);
  EXPECT_EQ(scales.tensors[0].params.zero_point[0], 5);
  EXPECT_EQ(scales.tensors[0].note, "m");
  EXPECT_TRUE(std::isnan(scales.tensors[0].threshold));
  EXPECT_EQ(scales.tensors[1].params.axis, 1);
  EXPECT_EQ(scales.tensors[1].threshold, 2.5);
  // A cache has one symmetric scale a tensor: u8 [-0.5, 25] needs 25 / 127.
  EXPECT_EQ(read_trt_cache(scales_to_trt_cache(scales)).entries.size(), 1U);
  EXPECT_FLOAT_EQ(read_trt_cache(scales_to_trt_cache(scales)).entries[0].scale, 25.0F / 127);
  EXPECT_NE(failure<VersionError>(R"({"format": "planck.scales", "version": 2})"), "");
}

TEST(ScaleFiles, BadNumbersNameTheTensor) {
  const char* texts[] = {R"({"tensor_scales": {"x": -1}})",
                         R"({"int8_tensor_scales": {"x": 0}})",
                         "x: nan\n",
                         "x: inf\n",
                         "x: -1\n",
                         R"({"x": {"scale": [1, -1], "qmin": -128, "qmax": 127}})"};
  for (const char* text : texts) {
    EXPECT_TRUE(says(failure<CalibrationError>(text), "'x'")) << text;
  }
}

TEST(ScaleFiles, TextsThatAreNone) {
  const std::string deep = std::string(100000, '[') + std::string(100000, ']');
  const std::string texts[] = {"",
                               "\n\n",
                               "hello",
                               "{",
                               "{}",
                               "[1]",
                               std::string("x: 1\0", 5),
                               R"({"tensor_scales": {"x": 1, "x": 2}})",
                               "{\"a\": " + deep + "}",
                               R"({"tensor_scales": {"x": NaN}})",
                               R"({"tensor_scales": 3})",
                               R"({"tensor_scales": {"x": "1"}})",
                               "x: 1\ny = z\n",
                               R"({"tensor_scales": {"x": 1e999}})",
                               "\xff\xfe{",
                               "x\xd5: 1\n"};
  for (const std::string& text : texts)
    EXPECT_NE(failure<ParseError>(text), "") << text.substr(0, 40);
  EXPECT_TRUE(says(failure<UsageError>("x: 1\n", "trt"), "trt_cache"));
  EXPECT_NE(failure<ParseError>("x: 1\n", "tao"), "");
  EXPECT_NE(failure<FileError>([] { read_scales_file("/nonexistent/scales"); }), "");
}

// Whatever the bytes, the end is Scales or a typed error that is not ours.
TEST(ScaleFiles, DamagedBytes) {
  const std::string samples[] = {
      cache("a:0: 3caa54fc\nb: 3c008912\n"),
      "a b: 1.5\nc: 2\n",
      R"({"tensor_scales": {"x": 1, "y": 2.5}})",
      R"({"x": {"lowest": {"data": [-1, 2]}, "highest": 3, "CLS": "TensorData"}})",
      R"({"activation_encodings": {"x": [{"scale": 0.5, "offset": -3, "bitwidth": 8}]}})",
      R"({"w": {"step_size": [0.1, 0.2], "qmin": -127, "qmax": 127, "axis": 1}})",
      R"({"format": "planck.scales", "version": 1, "tensors": [{"name": "x", "scale": [0.1],
         "zero_point": [5], "dtype": "u8", "axis": null}]})"};
  std::mt19937 random(7);
  for (const std::string& sample : samples) {
    for (int round = 0; round < 2000; ++round) {
      std::string text = sample;
      for (unsigned i = 0; i <= random() % 3; ++i) {
        const size_t at = random() % text.size();
        const std::string piece(1, static_cast<char>(random() % 256));
        text.replace(at, random() % 2, random() % 2 == 0 ? piece : text.substr(at / 2, 5));
      }
      try {
        for (const TensorScale& tensor : read_scales(text).tensors) {
          EXPECT_EQ(tensor.params.scale.size(), tensor.params.zero_point.size());
          for (const float scale : tensor.params.scale) EXPECT_TRUE(scale > 0 && scale < INFINITY);
        }
      } catch (const InternalError& e) {
        ADD_FAILURE() << e.what();
      } catch (const Error&) {
      }
    }
  }
}

}  // namespace
}  // namespace planck
