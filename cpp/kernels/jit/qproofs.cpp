#include "kernels/jit/qproofs.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "base/checked.h"
#include "kernels/jit/qmatching.h"

namespace planck::jit {
namespace {

constexpr int64_t kColumns = ProofLayout::kColumns;
constexpr int64_t kGroupBytes = 4 * kColumns;
constexpr int64_t kOrdered = ProofLayout::kOrdered;
constexpr int kMost = 128;  // 255 * 128 = 32640, and one more weight would be too much

int64_t place_of(int64_t k, int64_t column) { return (k / 4 * kColumns + column) * 4 + k % 4; }

// The sums that a proof is about.
struct Parts {
  int up = 0, down = 0;
  void add(int weight) { (weight > 0 ? up : down) += std::abs(weight); }
  bool fit() const { return up <= kMost && down <= kMost; }
};

struct Correction {
  uint16_t place = 0;
  int8_t weight = 0;
};

bool fits(const CorrectionGroup& g) {
  Parts parts;
  for (const int8_t weight : g.weight) parts.add(weight);
  return parts.fit();
}

// The corrections of one column in a block of k.
class CorrectionList {
 public:
  void add(const Correction& c) { all_.push_back(c); }
  // In groups, each in the first that has room, large ones first; returns how many these are.
  int64_t pack() {
    std::ranges::stable_sort(all_, std::greater(),
                             [](const Correction& c) { return std::abs(c.weight); });
    for (const Correction& c : all_) {
      const auto room = [&](Open& open) { return put(open, c); };
      if (!std::ranges::any_of(groups_, room)) put(groups_.emplace_back(), c);
    }
    return std::ssize(groups_);
  }
  std::optional<CorrectionGroup> group(size_t index) const {
    if (index >= groups_.size()) return std::nullopt;
    return groups_[index].group;
  }

 private:
  struct Open {
    CorrectionGroup group;
    int used = 0;
  };
  static bool put(Open& open, const Correction& c) {
    if (open.used == CorrectionGroup::kCount) return false;
    CorrectionGroup with = open.group;
    with.place[open.used] = c.place;
    with.weight[open.used] = c.weight;
    if (!fits(with)) return false;
    open = {with, open.used + 1};
    return true;
  }
  std::vector<Correction> all_;
  std::vector<Open> groups_;
};

// Up to two pairs of one column, whose weights are one set.
struct WeightSet {
  static constexpr int kMost = 4;
  int8_t* weight[kMost];
  int64_t k[kMost];
  int count;
};

// Of each block of k.
using Lists = std::vector<std::array<CorrectionList, kColumns>>;

// Takes from the largest weight until the rest fits.
void make_safe(const WeightSet& set, int sign, size_t column, Lists& lists) {
  int left = -kMost;
  for (int i = 0; i < set.count; ++i) left += std::max(sign * *set.weight[i], 0);
  while (left > 0) {
    int from = 0;
    for (int i = 1; i < set.count; ++i) {
      if (sign * *set.weight[i] > sign * *set.weight[from]) from = i;
    }
    int8_t& w = *set.weight[from];
    const int taken = std::min(left, sign * w);
    const auto block = static_cast<size_t>(set.k[from] / ProofLayout::kBlock);
    lists[block][column].add({static_cast<uint16_t>(set.k[from] % ProofLayout::kBlock),
                              static_cast<int8_t>(sign * taken)});
    w = static_cast<int8_t>(w - sign * taken);
    left -= taken;
  }
}

struct Split {
  std::vector<uint8_t> order;
  std::vector<int8_t> safe;  // in this order
  std::vector<CorrectionGroup> groups;
  std::vector<int64_t> counts;  // of groups, in each block
};

// Where the group at a place of packed order lies in its own.
int64_t own_place(const uint8_t* order, int64_t group) {
  return group / kOrdered * kOrdered + order[group];
}

// One column of weights in packed order.
void split_column(std::span<int8_t> weights, const uint8_t* order, PanelForm form, int64_t column,
                  Lists& lists) {
  const int64_t step = form == PanelForm::fours ? 2 : 1;
  const int64_t count = std::ssize(weights) / kGroupBytes;
  for (int64_t group = 0; group < count; group += step) {
    const int64_t groups = std::min(step, count - group);
    for (int64_t pair = 0; pair < 2; ++pair) {
      WeightSet set{{}, {}, 0};
      for (int64_t i = 0; i < 2 * groups; ++i, ++set.count) {
        const int64_t place = group + i / 2, element = pair * 2 + i % 2;
        set.weight[i] = weights.data() + place * kGroupBytes + column * 4 + element;
        set.k[i] = own_place(order, place) * 4 + element;
      }
      for (const int sign : {1, -1}) make_safe(set, sign, static_cast<size_t>(column), lists);
    }
  }
}

// Partners that leave few corrections.
void order_block(const int8_t* weights, std::span<uint8_t> order) {
  std::vector<GroupParts> groups(order.size());
  for (GroupParts& g : groups) {
    for (int64_t pair = 0; pair < 2 * kColumns; ++pair, weights += 2) {
      Parts parts;
      parts.add(weights[0]), parts.add(weights[1]);
      g.part[static_cast<size_t>(pair)] = static_cast<int16_t>(parts.up);
      g.part[static_cast<size_t>(pair + 2 * kColumns)] = static_cast<int16_t>(parts.down);
    }
  }
  match_groups(groups, kMost, order);
}

std::vector<uint8_t> order_of(const ProofLayout& layout, PanelForm form, const int8_t* panel) {
  std::vector<uint8_t> order(static_cast<size_t>(layout.k / 4));
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<uint8_t>(i % kOrdered);
  for (int64_t i = 0; i < layout.whole && form == PanelForm::fours; i += kOrdered) {
    const auto count = static_cast<size_t>(std::min(kOrdered, layout.whole - i));
    order_block(panel + i * kGroupBytes, std::span(order).subspan(static_cast<size_t>(i), count));
  }
  return order;
}

// Columns take turns: a group need not wait for the sums of the one before.
void append(const std::array<CorrectionList, kColumns>& lists, std::vector<CorrectionGroup>& all) {
  for (size_t turn = 0, before = all.size() + 1; before != all.size(); ++turn) {
    before = all.size();
    for (size_t column = 0; column < lists.size(); ++column) {
      auto group = lists[column].group(turn);
      if (!group) continue;
      group->column = static_cast<uint8_t>(column);
      all.push_back(*group);
    }
  }
}

// Nothing where the corrections do not fit the panel.
std::optional<Split> split(const ProofLayout& layout, PanelForm form, const int8_t* panel) {
  Split out;
  out.order = order_of(layout, form, panel);
  for (int64_t i = 0; i < layout.k / 4; ++i) {
    const int8_t* group = panel + own_place(out.order.data(), i) * kGroupBytes;
    out.safe.insert(out.safe.end(), group, group + kGroupBytes);
  }
  Lists lists(static_cast<size_t>(layout.blocks));
  for (int64_t j = 0, groups = 0; j < kColumns; ++j) {
    split_column(out.safe, out.order.data(), form, j, lists);
    for (auto& columns : lists) groups += columns[static_cast<size_t>(j)].pack();
    if (groups > layout.capacity) return std::nullopt;
  }
  for (const auto& columns : lists) {
    const int64_t before = std::ssize(out.groups);
    append(columns, out.groups);
    out.counts.push_back(std::ssize(out.groups) - before);
    if (out.counts.back() > UINT16_MAX) return std::nullopt;
  }
  return out;
}

// Cycles for 32 rows, as measured on Zen 4.
double cycles(const ProofLayout& layout, PanelForm form, int64_t groups) {
  constexpr double kAny = 24, kPairs = 16.2, kFours = 13.4;  // for each k
  constexpr double kCorrected = 220, kGroup = 10;
  const double rate = form == PanelForm::fours ? kFours : form == PanelForm::pairs ? kPairs : kAny;
  const double corrections = groups > 0 ? kCorrected + kGroup * static_cast<double>(groups) : 0;
  return rate * static_cast<double>(layout.k) + corrections;
}

// Every set of the form fits.
bool proven(const ProofLayout& layout, PanelForm form, const int8_t* weights) {
  const int64_t step = form == PanelForm::fours ? 8 : 4;
  for (int64_t k = 0; k < layout.k; k += step) {
    for (int64_t column = 0; column < kColumns; ++column) {
      for (const int64_t pair : {k, k + 2}) {
        Parts parts;
        for (int64_t i = pair; i < std::min(k + step, layout.k); i += 4) {
          parts.add(weights[place_of(i, column)]), parts.add(weights[place_of(i + 1, column)]);
        }
        if (!parts.fit()) return false;
      }
    }
  }
  return true;
}

// The safe part in its own order.
void restore(const ProofLayout& layout, const int8_t* panel, auto* weights) {
  for (int64_t i = 0; i < layout.k / 4; ++i) {
    const int64_t own = own_place(layout.order(panel), i);
    std::copy_n(panel + i * kGroupBytes, kGroupBytes, weights + own * kGroupBytes);
  }
}

// A permutation of every kOrdered groups; of fours alone another than none.
bool order_holds(const ProofLayout& layout, PanelForm form, const uint8_t* order) {
  for (int64_t first = 0; first < layout.k / 4; first += kOrdered) {
    const int64_t count = std::min(kOrdered, layout.k / 4 - first);
    std::array<bool, kOrdered> found = {};
    for (int64_t i = 0; i < count; ++i) {
      const uint8_t place = order[first + i];
      if (place >= count || found[place]) return false;
      const bool free = form == PanelForm::fours && first + i < layout.whole;
      if (!free && place != i) return false;
      found[place] = true;
    }
  }
  return true;
}

// Whatever their weights: kernels read at all places.
bool places_hold(const ProofLayout& layout, const int8_t* panel) {
  const CorrectionGroup* group = layout.groups(panel);
  for (int64_t block = 0; block < layout.blocks; ++block) {
    const int64_t end = std::min(ProofLayout::kBlock, layout.depth - block * ProofLayout::kBlock);
    for (int64_t i = 0; i < layout.count(panel, block); ++i, ++group) {
      const auto inside = [&](uint16_t place) { return place < end; };
      if (!std::ranges::all_of(group->place, inside)) return false;
    }
  }
  return true;
}

// Where the number of groups fits the panel.
bool corrections_hold(const ProofLayout& layout, const int8_t* panel, int64_t groups) {
  if (!places_hold(layout, panel)) return false;
  for (int64_t i = 0; i < groups; ++i) {
    const CorrectionGroup& g = layout.groups(panel)[i];
    if (g.column >= kColumns || !fits(g)) return false;
  }
  std::vector<int16_t> whole(static_cast<size_t>(layout.groups_at));
  restore(layout, panel, whole.data());
  bool inside = true;
  each_correction(layout, panel, [&](int64_t k, int64_t column, int8_t weight) {
    int16_t& w = whole[static_cast<size_t>(place_of(k, column))];
    w = static_cast<int16_t>(w + weight);
    inside = inside && std::abs(w) <= 2 * kMost;
  });
  return inside && std::ranges::all_of(whole, [](int16_t w) { return w >= -128 && w <= 127; });
}

}  // namespace

ProofLayout::ProofLayout(int64_t rows) : depth(rows), k(round_up(rows, 4)), whole(rows / 4) {
  constexpr int64_t kSpare = 16;  // narrow columns fill their groups badly
  blocks = ceil_div(k, kBlock);
  capacity = k / 16 * 3 + kSpare;
  groups_at = checked_mul(kColumns, k, "packed weights");
  const auto group = static_cast<int64_t>(sizeof(CorrectionGroup));
  counts_at = checked_add(groups_at, checked_mul(capacity, group, "corrections"), "corrections");
  order_at = checked_add(counts_at, 2 * blocks, "corrections");
  form_at = round_up(checked_add(order_at, k / 4, "corrections"), kProofBytes);
  bytes = checked_add(form_at, kProofBytes, "packed weights");
}

void prove_panel(const ProofLayout& layout, int8_t* panel) {
  std::optional<Split> best;
  PanelForm best_form = PanelForm::any;
  double least = cycles(layout, best_form, 0);
  for (const PanelForm form : {PanelForm::pairs, PanelForm::fours}) {
    std::optional<Split> found = split(layout, form, panel);
    if (!found) continue;
    const double cost = cycles(layout, form, std::ssize(found->groups));
    if (cost > least) continue;
    best = std::move(found), best_form = form, least = cost;
  }
  panel[layout.form_at] = static_cast<int8_t>(best_form);
  const auto order = best ? best->order : order_of(layout, best_form, panel);
  if (!order.empty()) std::memcpy(panel + layout.order_at, order.data(), order.size());
  if (!best) return;
  std::ranges::copy(best->safe, panel);
  panel[layout.form_at + 1] = best->groups.empty() ? 0 : 1;
  const size_t bytes = best->groups.size() * sizeof(CorrectionGroup);
  if (bytes > 0) std::memcpy(panel + layout.groups_at, best->groups.data(), bytes);
  for (int64_t block = 0; block < layout.blocks; ++block) {
    const int64_t count = best->counts[static_cast<size_t>(block)];
    panel[layout.counts_at + 2 * block] = static_cast<int8_t>(count % 256);
    panel[layout.counts_at + 2 * block + 1] = static_cast<int8_t>(count / 256);
  }
}

void restore_panel(const ProofLayout& layout, const int8_t* panel, int8_t* weights) {
  restore(layout, panel, weights);
  each_correction(layout, panel, [&](int64_t k, int64_t column, int8_t weight) {
    if (k >= layout.k || column >= kColumns) return;
    int8_t& w = weights[place_of(k, column)];
    w = static_cast<int8_t>(w + weight);
  });
}

bool panel_holds(const ProofLayout& layout, const int8_t* panel) {
  const PanelForm form = layout.form(panel);
  if (form < PanelForm::any || form > PanelForm::fours) return false;
  if (!order_holds(layout, form, layout.order(panel))) return false;
  int64_t groups = 0;
  for (int64_t block = 0; block < layout.blocks; ++block) groups += layout.count(panel, block);
  if (groups > layout.capacity || layout.corrected(panel) != (groups > 0)) return false;
  if (form == PanelForm::any) return groups == 0;
  return proven(layout, form, panel) && corrections_hold(layout, panel, groups);
}

}  // namespace planck::jit
