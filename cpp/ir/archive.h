#pragma once
// A graph as bytes (CBOR), without its larger constants: how a plan carries the model it came from.
#include <functional>
#include <map>
#include <span>
#include <vector>

#include "ir/graph.h"

namespace planck {

// Constants of up to this many bytes lie in the archive itself.
inline constexpr int64_t kArchivedBytes = 256;

// `weight` is called for each larger constant that a node or output reads, in order of appearance,
// and gives its index.
std::vector<std::byte> write_archive(const Graph& g,
                                     const std::function<int64_t(const Value&)>& weight);

struct ArchivedGraph {
  Graph graph;
  std::map<ValueId, int64_t> weights;  // values whose contents lie elsewhere: index
};

// Every id, attribute and number of operands is checked, and that each node reads only what comes
// before it; facts are taken as written, so whoever evaluates checks types (ops/evaluate.h), and no
// pass runs on `graph`. CorruptError.
ArchivedGraph read_archive(std::span<const std::byte> bytes, const OpTable& ops);

}  // namespace planck
