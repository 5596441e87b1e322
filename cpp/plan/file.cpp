#include "plan/file.h"

#define XXH_INLINE_ALL  // header only: nothing to link
#include <xxhash.h>

#include <array>
#include <bit>
#include <cstring>

#include "base/checked.h"
#include "base/device.h"
#include "base/float_state.h"
#include "plan/archive.h"

namespace planck {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is written as it lies");

constexpr std::array<char, 8> kMagic = {'\x89', 'P', 'L', 'A', 'N', '\r', '\n', '\x1a'};
constexpr uint32_t kByteOrder = 0x01020304;
constexpr int64_t kAlign = 64, kWeightAlign = 2 << 20;
constexpr uint32_t kRequired = 1;  // flag: a reader that does not know the kind must refuse

struct Hash {
  uint64_t low = 0, high = 0;
  bool operator==(const Hash&) const = default;
};

struct Header {
  std::array<char, 8> magic = kMagic;
  uint16_t major = kPlanMajor, minor = kPlanMinor;
  uint32_t byte_order = kByteOrder;
  uint64_t features = 0;  // none is defined yet: a set bit is a newer writer
  uint32_t sections = 0, reserved = 0;
  uint64_t size = 0;
  Hash hash;
  uint64_t padding = 0;
};
static_assert(sizeof(Header) == 64);

enum Kind : uint32_t { kMetadata = 1, kGraph = 2, kWeights = 3 };
struct Section {
  uint32_t kind = 0, flags = 0;
  uint64_t offset = 0, size = 0;
  Hash hash;
  uint64_t reserved = 0;
};
static_assert(sizeof(Section) == 48);

constexpr uint32_t kMostSections = 64;

Hash finished(XXH3_state_t& state) {
  const XXH128_hash_t h = XXH3_128bits_digest(&state);
  return {h.low64, h.high64};
}

class Hasher {
 public:
  Hasher() { XXH3_128bits_reset(&state_); }
  Hasher& add(const void* data, size_t size) {
    XXH3_128bits_update(&state_, data, size);
    return *this;
  }
  Hash done() { return finished(state_); }

 private:
  XXH3_state_t state_;
};

Hash hash_of(std::span<const std::byte> bytes) {
  return Hasher().add(bytes.data(), bytes.size()).done();
}

Hash hash_of(Header header, std::span<const Section> table) {
  header.hash = {};
  return Hasher().add(&header, sizeof header).add(table.data(), table.size_bytes()).done();
}

int64_t alignment_of(uint32_t kind) { return kind == kWeights ? kWeightAlign : kAlign; }

const std::array<std::byte, 4096> kZeros{};

// Zeros up to the next multiple of `to`.
void pad(const ByteSink& sink, int64_t at, int64_t to) {
  for (int64_t left = round_up(at, to) - at; left > 0;) {
    const auto now = std::min<int64_t>(left, static_cast<int64_t>(kZeros.size()));
    sink(std::span(kZeros).first(static_cast<size_t>(now)));
    left -= now;
  }
}

std::vector<ConstantPlace> places_of(const Plan& plan) {
  std::vector<ConstantPlace> places;
  int64_t end = 0;
  for (const PlanConstant& c : plan.constants) {
    const int64_t at = round_up(end, kAlign);
    places.push_back({c.name, c.tensor.dtype(), c.tensor.shape(), c.packing, at});
    end = checked_add(at, c.tensor.bytes());
  }
  return places;
}

void write_weights(const Plan& plan, const ByteSink& sink) {
  int64_t end = 0;
  for (const PlanConstant& c : plan.constants) {
    pad(sink, end, kAlign);
    sink({c.tensor.data(), static_cast<size_t>(c.tensor.bytes())});
    end = round_up(end, kAlign) + c.tensor.bytes();
  }
}

Section weights_section(const Plan& plan) {
  Hasher hasher;
  uint64_t size = 0;
  write_weights(plan, [&](std::span<const std::byte> bytes) {
    hasher.add(bytes.data(), bytes.size());
    size += bytes.size();
  });
  return {kWeights, kRequired, 0, size, hasher.done(), 0};
}

Section section_of(uint32_t kind, uint32_t flags, std::span<const std::byte> bytes) {
  return {kind, flags, 0, bytes.size(), hash_of(bytes), 0};
}

// --- reading ---
class File {
 public:
  File(const Bytes& bytes, const PlanReadOptions& options) : bytes_(bytes), options_(options) {
    read_header();
    read_table();
    check_hash(hash_of(header_, table_), header_.hash, "the header");
    for (const Section& s : table_) check_section(s);
  }

  Plan plan() const {
    std::vector<ConstantPlace> places;
    Plan plan = with_context([&] { return read_archive(contents(kMetadata), places); },
                             "the metadata of the plan");
    const std::span<const std::byte> graph = contents(kGraph);
    plan.source.graph.assign(graph.begin(), graph.end());
    add_constants(places, plan);
    return plan;
  }

 private:
  static void check_hash(const Hash& is, const Hash& should, const char* what) {
    if (is != should) {
      throw with(CorruptError("the plan is damaged: the checksum of ", what, " does not match"),
                 {.hint = "build the plan again, or copy it again from its source"});
    }
  }

  void read_header() {
    const size_t size = bytes_.span.size();
    if (size < sizeof kMagic ||
        std::memcmp(bytes_.span.data(), kMagic.data(), sizeof kMagic) != 0) {
      throw with(CorruptError("this is not a Planck plan: it does not begin with the magic bytes"),
                 {.hint = "planck.build makes a plan from an ONNX model"});
    }
    if (size < sizeof header_) truncated(sizeof header_);
    std::memcpy(&header_, bytes_.span.data(), sizeof header_);
    if (header_.byte_order == __builtin_bswap32(kByteOrder)) {
      throw TargetError("the plan was written on a big-endian machine, this one is little-endian");
    }
    if (header_.byte_order != kByteOrder) throw CorruptError("the plan's header is damaged");
    if (header_.major != kPlanMajor || header_.features != 0) {
      throw with(VersionError("the plan has format ", header_.major, '.', header_.minor,
                              ", this library reads ", kPlanMajor, ".x"),
                 {.expected = cat(kPlanMajor, ".x"),
                  .got = cat(header_.major, '.', header_.minor),
                  .hint = "build the plan again with this version"});
    }
    if (header_.size > size) truncated(header_.size);
    if (header_.size < size) throw CorruptError("the plan has bytes past its end");
    if (header_.sections > kMostSections || header_.reserved != 0 || header_.padding != 0) {
      throw CorruptError("the plan's header is damaged");
    }
  }

  [[noreturn]] void truncated(uint64_t want) const {
    throw with(CorruptError("the plan is truncated: it should have ", want, " bytes and has ",
                            bytes_.span.size()),
               {.expected = cat(want, " bytes"),
                .got = cat(bytes_.span.size(), " bytes"),
                .hint = "copy it again from its source"});
  }

  void read_table() {
    table_.resize(header_.sections);
    const size_t end = sizeof header_ + table_.size() * sizeof(Section);
    if (bytes_.span.size() < end) truncated(end);
    if (!table_.empty()) {
      std::memcpy(table_.data(), bytes_.span.data() + sizeof header_, end - sizeof header_);
    }
    uint64_t at = end;
    for (const Section& s : table_) {
      const auto align = static_cast<uint64_t>(alignment_of(s.kind));
      const uint64_t begin = (at + align - 1) / align * align;
      if (s.offset != begin || s.size > header_.size - std::min(begin, header_.size)) {
        throw CorruptError("the plan's sections overlap, leave a hole or reach past the end");
      }
      check_zeros(at, begin);
      at = begin + s.size;
    }
    if (at != header_.size) throw CorruptError("the plan has bytes past its last section");
  }

  void check_zeros(uint64_t from, uint64_t to) const {
    while (from < to) {
      const auto now = std::min<uint64_t>(to - from, kZeros.size());
      if (std::memcmp(bytes_.span.data() + from, kZeros.data(), now) != 0) {
        throw CorruptError("the plan has data between its sections");
      }
      from += now;
    }
  }

  void check_section(const Section& s) const {
    const bool known = s.kind >= kMetadata && s.kind <= kWeights;
    if (!known && (s.flags & kRequired) != 0) {
      throw VersionError("the plan has a section of kind ", s.kind,
                         " that this library does not know");
    }
    if (!known) return;
    if (std::ranges::count(table_, s.kind, &Section::kind) != 1) {
      throw CorruptError("the plan has two sections of one kind");
    }
    if (s.kind == kWeights && !options_.verify) return;
    if (s.kind != kWeights && s.size > static_cast<uint64_t>(options_.metadata_bytes)) {
      throw with(LimitError("the plan's metadata has ", s.size,
                            " bytes; the limit plan_metadata_bytes is ", options_.metadata_bytes),
                 {.limit = options_.metadata_bytes,
                  .need = static_cast<int64_t>(s.size),
                  .option = "plan_metadata_bytes"});
    }
    check_hash(hash_of(bytes_.span.subspan(s.offset, s.size)), s.hash,
               s.kind == kWeights ? "the weights" : "the metadata");
  }

  std::span<const std::byte> contents(uint32_t kind) const {
    const auto at = std::ranges::find(table_, kind, &Section::kind);
    if (at != table_.end()) return bytes_.span.subspan(at->offset, at->size);
    if (kind == kGraph) return {};
    throw CorruptError("the plan lacks its section ", kind);
  }

  void add_constants(const std::vector<ConstantPlace>& places, Plan& plan) const {
    const std::span<const std::byte> weights = contents(kWeights);
    int64_t end = 0;
    for (const ConstantPlace& p : places) {
      int64_t bytes = 0;
      try {
        bytes = checked_mul(checked_count(p.shape), size_of(p.dtype));
        if (p.offset != round_up(end, kAlign)) throw CorruptError("");
        end = checked_add(p.offset, bytes);
      } catch (const Error&) {
        throw CorruptError("the weight '", p.name, "' lies at a wrong place or has a wrong size");
      }
      if (end > static_cast<int64_t>(weights.size())) {
        throw CorruptError("the weight '", p.name, "' reaches past the end of the weights");
      }
      plan.constants.push_back(
          {p.name, Tensor(p.dtype, p.shape, weights.data() + p.offset, bytes_.owner), p.packing});
    }
    if (end != static_cast<int64_t>(weights.size())) {
      throw CorruptError("the plan has weights that no constant names");
    }
  }

  const Bytes& bytes_;
  const PlanReadOptions& options_;
  Header header_;
  std::vector<Section> table_;
};

}  // namespace

void write_plan(const Plan& plan, const ByteSink& sink) {
  const FloatState state;  // numbers are converted, to the same bytes in every host program
  const std::vector<std::byte> metadata = write_archive(plan, places_of(plan));
  const std::span<const std::byte> graph = plan.source.graph;
  std::vector<Section> table = {section_of(kMetadata, kRequired, metadata)};
  if (!graph.empty()) table.push_back(section_of(kGraph, 0, graph));
  table.push_back(weights_section(plan));
  Header header;
  header.sections = static_cast<uint32_t>(table.size());
  auto at = static_cast<int64_t>(sizeof header + table.size() * sizeof(Section));
  const int64_t start = at;
  for (Section& s : table) {
    s.offset = static_cast<uint64_t>(round_up(at, alignment_of(s.kind)));
    at = checked_add(static_cast<int64_t>(s.offset), static_cast<int64_t>(s.size));
  }
  header.size = static_cast<uint64_t>(at);
  header.hash = hash_of(header, table);
  sink(std::as_bytes(std::span(&header, 1)));
  sink(std::as_bytes(std::span(table)));
  at = start;
  for (const Section& s : table) {
    pad(sink, at, alignment_of(s.kind));
    if (s.kind == kWeights) {
      write_weights(plan, sink);
    } else {
      sink(s.kind == kMetadata ? std::span<const std::byte>(metadata) : graph);
    }
    at = static_cast<int64_t>(s.offset + s.size);
  }
}

void save_plan(const Plan& plan, const std::string& path) {
  write_atomically(path, [&](const ByteSink& sink) { write_plan(plan, sink); });
}

Plan read_plan(const Bytes& bytes, const PlanReadOptions& options) {
  return File(bytes, options).plan();
}

void rehash_plan(std::span<std::byte> file) {
  Header header;
  if (file.size() < sizeof header) throw CorruptError("no header");
  std::memcpy(&header, file.data(), sizeof header);
  std::vector<Section> table(std::min(header.sections, kMostSections));
  const size_t bytes = table.size() * sizeof(Section);
  if (file.size() < sizeof header + bytes) throw CorruptError("no table");
  if (!table.empty()) std::memcpy(table.data(), file.data() + sizeof header, bytes);
  for (Section& s : table) {
    if (s.offset > file.size() || s.size > file.size() - s.offset) continue;
    s.hash = hash_of(file.subspan(s.offset, s.size));
  }
  header.hash = hash_of(header, table);
  std::memcpy(file.data(), &header, sizeof header);
  if (!table.empty()) std::memcpy(file.data() + sizeof header, table.data(), bytes);
}

}  // namespace planck
