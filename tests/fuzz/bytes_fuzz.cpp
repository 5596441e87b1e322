// Damaged bytes through everything that reads bytes: nothing but a result or a typed error may come
// out, within a second and 256 MiB.
//
//   bytes_fuzz [--rounds N] [--seed N] [--cuts N] [--subject NAME] FILE...
//     cuts each file at N lengths (default: all) and damages it N times (default: 10000)
//   bytes_fuzz --one [--subject NAME] FILE
//     runs the file as it is and says what came out
//
// A failure writes its bytes to fuzz-failure.bin, for --one, and ends the program with 1. The same
// seed gives the same bytes. With libFuzzer (clang++ -fsanitize=fuzzer -DPLANCK_LIBFUZZER) the
// subject is "onnx".
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <string>

#include "backends/verify.h"
#include "builder/build.h"
#include "builder/load.h"
#include "runtime/inspect.h"
#include "runtime/session.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace planck {
namespace {

using Bytes8 = std::string;  // of a file
constexpr double kMostSeconds = 1.0;
constexpr int64_t kMostMemory = 256 * kMiB;

std::span<const std::byte> span_of(const Bytes8& bytes) { return std::as_bytes(std::span(bytes)); }

// --- running a plan
// --------------------------------------------------------------------------------

struct OwnedFeed {
  Shape shape;
  Tensor tensor;
};

// Small numbers that are indices, masks and data alike; symbols are 2.
OwnedFeed feed_for(const PlanPort& port) {
  OwnedFeed feed;
  for (const Dim& d : port.shape) feed.shape.push_back(d.known().value_or(2));
  Wide wide(port.dtype, feed.shape);
  for (size_t i = 0; i < wide.real.size(); ++i) wide.real[i] = static_cast<double>(i % 5) - 1.5;
  for (size_t i = 0; i < wide.integer.size(); ++i) wide.integer[i] = static_cast<int64_t>(i % 2);
  feed.tensor = narrow(wide);
  return feed;
}

class Memory : public OutputSink {
 public:
  void* output(size_t, const PlanPort& port, std::span<const int64_t> shape) override {
    std::byte* bytes = nullptr;
    kept_.push_back(Tensor::make(port.dtype, {shape.begin(), shape.end()}, &bytes));
    return bytes;
  }

 private:
  std::vector<Tensor> kept_;
};

// Inputs beyond this are the caller's memory and say nothing about the library.
bool modest(const PlanPort& port) {
  double count = 1;
  for (const Dim& d : port.shape) count *= static_cast<double>(d.known().value_or(2));
  return count <= 1e5;
}

void run(Plan plan, const Limits& limits) {
  std::vector<OwnedFeed> owned;
  std::vector<Feed> feeds;
  for (const PlanPort& port : plan.inputs) {
    if (!modest(port)) return;
    owned.push_back(feed_for(port));
  }
  const auto shared = std::make_shared<const Plan>(std::move(plan));
  for (size_t i = 0; i < owned.size(); ++i) {
    const PlanPort& port = shared->inputs[i];
    feeds.push_back({port.name, port.dtype, owned[i].shape, owned[i].tensor.data()});
  }
  Session session(shared, {1, limits});
  Memory sink;
  session.run(feeds, sink);
}

// Evaluates the source graph that the plan carries.
void compare(const Plan& plan, const Limits& limits) {
  tensor_facts(plan);
  std::vector<Tensor> inputs;
  for (const PlanPort& port : plan.inputs) {
    if (!modest(port)) return;
    inputs.push_back(feed_for(port).tensor);
  }
  GuardOptions options;
  options.limits = &limits;
  options.seconds = limits.run_timeout;
  const Guard guard(std::move(options));
  const GuardScope scope(&guard);
  compare_tensors(plan, std::move(inputs), nullptr,
                  {.threads = 1, .isolated = true, .progress = {}});
}

// --- subjects: what may be damaged
// ------------------------------------------------------------------

struct Subject {
  const char* name;
  // The bytes to damage, from a seed file.
  Bytes8 (*prepare)(const std::string& path, const Bytes8& file);
  // Everything that a user would do with them. Throws planck::Error.
  void (*use)(const std::string& folder, const Bytes8& bytes);
  // Makes damaged bytes look whole again, as an attacker would; null: nothing to do.
  void (*mend)(Bytes8& bytes);
};

Bytes8 as_it_is(const std::string&, const Bytes8& file) { return file; }

void use_model(const std::string& folder, const Bytes8& bytes) {
  BuildOptions options;
  options.limits = Limits::tight();
  options.external_data_dir = folder;
  run(build_bytes(span_of(bytes), options), options.limits);
}

Bytes8 plan_of(const std::string& path, const Bytes8&) {
  Bytes8 out;
  write_plan(build_file(path, {}), [&](std::span<const std::byte> piece) {
    out.append(reinterpret_cast<const char*>(piece.data()), piece.size());
  });
  return out;
}

void use_plan(const std::string&, const Bytes8& bytes) {
  LoadOptions options;
  options.limits = Limits::tight();
  std::byte* copy = nullptr;  // aligned, as a mapped file is
  const Tensor owner = Tensor::make(DType::u8, {static_cast<int64_t>(bytes.size())}, &copy);
  std::ranges::copy(span_of(bytes), copy);
  Plan plan =
      load_plan(Bytes{{copy, bytes.size()}, std::make_shared<const Tensor>(owner)}, options);
  typed([&] { compare(plan, options.limits); });  // reads the source graph too
  run(std::move(plan), options.limits);
}

void rehash(Bytes8& bytes) {
  try {
    rehash_plan(std::as_writable_bytes(std::span(bytes)));
  } catch (const CorruptError&) {  // no table left
  }
}

constexpr Subject kSubjects[] = {
    {"onnx", as_it_is, use_model, nullptr},
    {"plan", plan_of, use_plan, nullptr},
    {"plan_rehashed", plan_of, use_plan, rehash},
};

// --- damage
// -----------------------------------------------------------------------------------------

using Random = std::mt19937_64;

size_t below(Random& random, size_t n) { return random() % n; }

// Where bytes are that say something: files hold megabytes of zeros between their parts.
class Places {
 public:
  explicit Places(const Bytes8& bytes) {
    for (size_t at = 0; at < bytes.size(); at += kBlock) {
      const std::string_view block = std::string_view(bytes).substr(at, kBlock);
      if (block.find_first_not_of('\0') != std::string_view::npos) blocks_.push_back(at);
    }
  }

  // A place in a file of this size; one in twenty is anywhere.
  size_t pick(Random& random, size_t size) const {
    const bool anywhere = blocks_.empty() || below(random, 20) == 0;
    const size_t at = anywhere ? random() : blocks_[random() % blocks_.size()] + random() % kBlock;
    return at % size;
  }

  bool holds(size_t at) const { return std::ranges::binary_search(blocks_, at / kBlock * kBlock); }

 private:
  static constexpr size_t kBlock = 64;
  std::vector<size_t> blocks_;
};

// One of: flip a bit, set a byte, cut a range, repeat a range, write a large number, swap ranges.
void damage(Bytes8& bytes, const Places& places, Random& random) {
  if (bytes.empty()) return;
  const size_t at = places.pick(random, bytes.size());
  const size_t size = 1 + below(random, std::min<size_t>(64, bytes.size() - at));
  switch (below(random, 6)) {
    case 0:
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(random, 8)));
      break;
    case 1:
      bytes[at] = static_cast<char>(below(random, 256));
      break;
    case 2:
      bytes.erase(at, size);
      break;
    case 3:
      bytes.insert(below(random, bytes.size()), Bytes8(bytes, at, size));
      break;
    case 4:
      bytes.replace(at, 1, Bytes8(1 + below(random, 8), '\xff') + '\x01');
      break;
    default:
      std::swap_ranges(&bytes[at], &bytes[at] + size,
                       &bytes[below(random, bytes.size() - size + 1)]);
  }
}

// Most cases keep their length, which lets more of the structure live.
void change(Bytes8& bytes, const Places& places, Random& random) {
  const bool gentle = below(random, 3) != 0;
  for (size_t k = 1 + below(random, gentle ? 2 : 8); k > 0; --k) {
    if (!gentle) {
      damage(bytes, places, random);
    } else if (!bytes.empty()) {
      char& byte = bytes[places.pick(random, bytes.size())];
      byte = static_cast<char>(below(random, 2) == 0 ? below(random, 256)
                                                     : byte ^ (1 << below(random, 8)));
    }
  }
}

// --- watching
// ---------------------------------------------------------------------------------------

// A number of /proc/self/status, in bytes; 0 where it is not there.
int64_t status_bytes(const std::string& name) {
  std::ifstream status("/proc/self/status");
  std::string word;
  int64_t kib = 0;
  while (status >> word) {
    if (word == name + ":") status >> kib;
  }
  return kib * kKiB;
}

const Bytes8* g_case = nullptr;  // for the signal handler

void save_case() {
  if (g_case == nullptr) return;
  const int file = open("fuzz-failure.bin", O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (file < 0) return;
  const auto ignored = write(file, g_case->data(), g_case->size());
  (void)ignored;
  close(file);
}

[[maybe_unused]] void on_crash(int signal) {
  save_case();
  constexpr char kText[] = "bytes_fuzz: crash; the bytes are in fuzz-failure.bin\n";
  const auto ignored = write(2, kText, sizeof kText - 1);
  (void)ignored;
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

// The sanitizer's own report says more than our handler could.
void watch_crashes() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_set_death_callback(save_case);
#else
  for (const int signal : {SIGSEGV, SIGABRT, SIGFPE, SIGBUS, SIGILL}) std::signal(signal, on_crash);
#endif
}

struct Tally {
  std::map<std::string, int64_t> classes;  // "ok" or the class of the error
  int64_t cases = 0, failures = 0;
  double slowest = 0;
  std::string slowest_case;
};

class Fuzzer {
 public:
  Fuzzer(const Subject& subject, const std::string& path)
      : subject_(subject), folder_(path.substr(0, path.rfind('/') + 1)) {
    std::ifstream file(path, std::ios::binary);
    const Bytes8 whole{std::istreambuf_iterator<char>(file), {}};
    if (!file) throw FileError("cannot read ", path);
    seed_ = subject.prepare(path, whole);
    places_ = Places(seed_);
    try {
      subject.use(folder_, seed_);
    } catch (const UnsupportedError&) {  // a seed may be ahead of what is supported
    }
    memory_ = status_bytes("VmHWM");
  }

  const Bytes8& seed() const { return seed_; }
  const Tally& tally() const { return tally_; }
  int64_t grown() const { return status_bytes("VmHWM") - memory_; }

  void try_case(const Bytes8& bytes, const std::string& name) {
    g_case = &bytes;
    const auto start = std::chrono::steady_clock::now();
    const std::string outcome = outcome_of(bytes, name);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    ++tally_.classes[outcome];
    ++tally_.cases;
    if (took.count() > tally_.slowest) {
      tally_.slowest = took.count();
      tally_.slowest_case = name;
    }
    if (took.count() > kMostSeconds * slack()) fail(name, cat("took ", took.count(), " s"));
    if (tally_.cases % 64 == 0 && grown() > kMostMemory * slack()) {
      fail(name, cat("or one of the 64 before it took ", grown() / kMiB, " MiB"));
      memory_ += grown();
    }
    g_case = nullptr;
  }

  void cuts(size_t most) {
    std::vector<size_t> lengths;
    for (size_t n = 0; n < seed_.size(); ++n) {
      if (places_.holds(n) || n % kMiB == 0) lengths.push_back(n);
    }
    const size_t step = most == 0 ? 1 : std::max<size_t>(1, lengths.size() / most);
    for (size_t i = 0; i < lengths.size(); i += step) {
      const size_t n = lengths[i];
      Bytes8 bytes = seed_.substr(0, n);
      if (subject_.mend != nullptr) subject_.mend(bytes);
      try_case(bytes, cat("cut at ", n));
    }
  }

  void changes(int64_t rounds, uint64_t seed) {
    for (int64_t i = 0; i < rounds; ++i) {
      Random random(seed * 1'000'003 + static_cast<uint64_t>(i));
      Bytes8 bytes = seed_;
      change(bytes, places_, random);
      if (subject_.mend != nullptr) subject_.mend(bytes);
      try_case(bytes, cat("change ", i));
    }
  }

 private:
  // Sanitizers slow everything down and keep freed memory.
  static int slack() {
#if defined(__SANITIZE_ADDRESS__)
    return 6;
#else
    return 1;
#endif
  }

  std::string outcome_of(const Bytes8& bytes, const std::string& name) {
    try {
      subject_.use(folder_, bytes);
      return "ok";
    } catch (const Error& e) {
      // What a file holds is never our broken invariant, and the limits come before the memory.
      const std::string kind = e.kind();
      if (kind == "InternalError" || kind == "OutOfMemoryError") fail(name, e.what());
      return kind;
    } catch (const std::exception& e) {
      fail(name, cat("left as an untyped exception: ", e.what()));
      return "untyped";
    }
  }

  void fail(const std::string& name, const std::string& why) {
    if (tally_.failures++ == 0) save_case();
    std::printf("FAILED %s, %s: %s\n", subject_.name, name.c_str(), why.c_str());
  }

  const Subject& subject_;
  std::string folder_;
  Bytes8 seed_;
  Places places_{""};
  int64_t memory_ = 0;
  Tally tally_;
};

struct Arguments {
  int64_t rounds = 10'000;
  uint64_t seed = 1;
  size_t cuts = 0;  // 0: all
  bool one = false;
  std::string subject;  // empty: all
  std::vector<std::string> files;
};

Arguments parse(int argc, char** argv) {
  Arguments out;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto next = [&] { return i + 1 < argc ? argv[++i] : ""; };
    if (word == "--rounds") {
      out.rounds = std::atoll(next());
    } else if (word == "--seed") {
      out.seed = static_cast<uint64_t>(std::atoll(next()));
    } else if (word == "--cuts") {
      out.cuts = static_cast<size_t>(std::atoll(next()));
    } else if (word == "--subject") {
      out.subject = next();
    } else if (word == "--one") {
      out.one = true;
    } else {
      out.files.push_back(word);
    }
  }
  return out;
}

void report(const Subject& subject, const std::string& path, const Fuzzer& fuzzer) {
  std::vector<std::string> classes;
  for (const auto& [name, count] : fuzzer.tally().classes) classes.push_back(cat(name, ' ', count));
  const Tally& tally = fuzzer.tally();
  std::printf("%s %s: %lld cases, slowest %.3f s (%s), %lld MiB more; %s\n", subject.name,
              path.c_str(), static_cast<long long>(tally.cases), tally.slowest,
              tally.slowest_case.c_str(), static_cast<long long>(fuzzer.grown() / kMiB),
              joined(classes).c_str());
  std::fflush(stdout);
}

int64_t fuzz(const Subject& subject, const std::string& path, const Arguments& arguments) {
  try {
    Fuzzer fuzzer(subject, path);
    fuzzer.cuts(arguments.cuts);
    fuzzer.changes(arguments.rounds, arguments.seed);
    report(subject, path, fuzzer);
    return fuzzer.tally().failures;
  } catch (const UnsupportedError& e) {  // a seed that no plan comes from
    std::printf("%s %s: no plan: %s\n", subject.name, path.c_str(), e.code());
    return 0;
  } catch (const Error& e) {
    std::printf("FAILED %s %s: the seed itself: %s\n", subject.name, path.c_str(), e.what());
    return 1;
  }
}

int one(const Subject& subject, const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const Bytes8 bytes{std::istreambuf_iterator<char>(file), {}};
  try {
    subject.use(path.substr(0, path.rfind('/') + 1), bytes);
    std::printf("ok\n");
  } catch (const Error& e) {
    std::printf("%s: %s\n", e.kind(), e.what());
  }
  return 0;
}

int run_all(const Arguments& arguments) {
  watch_crashes();
  int64_t failures = 0;
  for (const Subject& subject : kSubjects) {
    if (!arguments.subject.empty() && arguments.subject != subject.name) continue;
    for (const std::string& path : arguments.files) {
      if (arguments.one) return one(subject, path);
      failures += fuzz(subject, path, arguments);
    }
  }
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace planck

#ifdef PLANCK_LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    planck::use_model("", {reinterpret_cast<const char*>(data), size});
  } catch (const planck::InternalError&) {
    std::abort();
  } catch (const planck::Error&) {  // any other class is an answer
  }
  return 0;
}
#else
int main(int argc, char** argv) { return planck::run_all(planck::parse(argc, argv)); }
#endif
