// Feeds bytes to the importer: nothing but a graph or a typed error may come out.
//
// With libFuzzer (hours, all findings):
//   clang++ -std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined -Icpp -I<build>/proto
//     tests/fuzz/import_fuzz.cpp cpp/{base,ir,ops,importer}/*.cpp <build>/proto/onnx.pb.cc
//     -lprotobuf -o import_fuzz && ./import_fuzz corpus/
// Without it, -DPLANCK_FUZZ_MAIN gives a program that mutates files with a fixed seed:
//   ./import_fuzz ROUNDS FILE...
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "importer/importer.h"
#include "ops/ops.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace planck;
  ImportOptions options;
  options.limits = ImportLimits::tight();
  try {
    const Graph g = import_bytes(std::as_bytes(std::span(data, size)), builtin_ops(), options);
    verify(g);
  } catch (const InternalError& e) {  // what the file holds can never be our broken invariant
    std::fprintf(stderr, "%s\n", e.what());
    std::abort();
  } catch (const Error&) {  // any other class is an answer
  }
  return 0;
}

#ifdef PLANCK_FUZZ_MAIN
#include <chrono>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

namespace {

// One of: flip a bit, set a byte, cut a range, repeat a range, write a large number.
void mutate(std::string& bytes, std::mt19937_64& random) {
  const auto below = [&](size_t n) { return std::uniform_int_distribution<size_t>(0, n)(random); };
  if (bytes.empty()) return;
  const size_t at = below(bytes.size() - 1), size = below(std::min<size_t>(64, bytes.size() - at));
  switch (below(4)) {
    case 0:
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(7)));
      break;
    case 1:
      bytes[at] = static_cast<char>(below(255));
      break;
    case 2:
      bytes.erase(at, size);
      break;
    case 3:
      bytes.insert(below(bytes.size()), bytes.substr(at, size));
      break;
    default:
      bytes.replace(at, 1, std::string(below(9), '\xff') + '\x01');
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t rounds = argc > 1 ? std::atoll(argv[1]) : 0;
  std::mt19937_64 random(1);
  double slowest = 0;
  for (int i = 2; i < argc; ++i) {
    std::ifstream file(argv[i], std::ios::binary);
    const std::string seed{std::istreambuf_iterator<char>(file), {}};
    for (int64_t round = 0; round < rounds; ++round) {
      std::string bytes = seed;
      for (int k = 1 + static_cast<int>(random() % 8); k > 0; --k) mutate(bytes, random);
      const auto start = std::chrono::steady_clock::now();
      LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
      slowest = std::max(slowest, took.count());
    }
    std::printf("%s: %lld rounds, slowest %.3f s\n", argv[i], static_cast<long long>(rounds),
                slowest);
  }
}
#endif
