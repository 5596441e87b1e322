#pragma once
// Panels of weights whose products may be added up in 16 bits. vpmaddubsw adds two products and
// cuts the sum off at 16 bits; weights are known when they are packed, bytes of A are not. So each
// panel is split: weights = safe part + corrections, where the safe part cannot leave 16 bits with
// any A, and the corrections are few and added apart, exactly (kernels/qmatmul/corrections.h).
// Goals: what a kernel relies on is proved here, and can be checked again for a panel of a file.
#include <cstdint>

namespace planck::jit {

// What is proven of a panel's weights, [k / 4][16 columns][4]. 255 times the positive ones of a set
// fits 16 bits where they make at most 128, and so do the negative ones.
enum class PanelForm : int8_t {
  any = 0,    // nothing: there are no corrections
  pairs = 1,  // the sets are weights 2i and 2i + 1 of a column
  fours = 2,  // these, and the pair at the same place of the group of 4 that follows an even one
};

// Corrections of one column. The sum of their products fits 16 bits as well.
struct CorrectionGroup {
  static constexpr int kCount = 4;
  uint16_t place[kCount] = {};  // in the block of k
  int8_t weight[kCount] = {};
  uint8_t column = 0, unused[3] = {};
};

// Where things lie in a panel: weights, corrections in order of blocks of k, how many groups of
// these each block has, the order of the weights' groups of 4, what is proven. A panel of fours has
// every kOrdered groups in an order of its own (qmatching.h); one that is not whole is the last.
struct ProofLayout {
  static constexpr int64_t kColumns = 16, kBlock = 512, kOrdered = 128;
  explicit ProofLayout(int64_t rows);
  int64_t depth, k, whole;   // as it is; rounded up to groups of 4; groups that are whole
  int64_t blocks, capacity;  // capacity: correction groups
  int64_t groups_at, counts_at, order_at, form_at, bytes;

  PanelForm form(const int8_t* panel) const { return static_cast<PanelForm>(panel[form_at]); }
  bool corrected(const int8_t* panel) const { return panel[form_at + 1] != 0; }
  int64_t count(const int8_t* panel, int64_t block) const {  // of groups
    const auto* bytes = reinterpret_cast<const uint8_t*>(panel) + counts_at + 2 * block;
    return bytes[0] + 256 * bytes[1];
  }
  // [k / 4]: which of its kOrdered groups each group of the weights is.
  const uint8_t* order(const int8_t* panel) const {
    return reinterpret_cast<const uint8_t*>(panel) + order_at;
  }
  const CorrectionGroup* groups(const int8_t* panel) const {
    return reinterpret_cast<const CorrectionGroup*>(panel + groups_at);
  }
};
// form_at and bytes differ by this much: kernels know the end of a panel only.
inline constexpr int64_t kProofBytes = 64;

// Splits the weights of a panel that is zero behind them, in the form that is fastest.
void prove_panel(const ProofLayout& layout, int8_t* panel);
// Whether all that a panel says is so, and weights and corrections make numbers of 8 bits.
bool panel_holds(const ProofLayout& layout, const int8_t* panel);
// The weights that were split, in their own order.
void restore_panel(const ProofLayout& layout, const int8_t* panel, int8_t* weights);
// Visits every correction: (k, column, weight to add).
void each_correction(const ProofLayout& layout, const int8_t* panel, const auto& visit) {
  int64_t group = 0;
  for (int64_t block = 0; block < layout.blocks; ++block) {
    const int64_t end = group + layout.count(panel, block);
    for (; group < end && group < layout.capacity; ++group) {
      const CorrectionGroup& g = layout.groups(panel)[group];
      for (int i = 0; i < CorrectionGroup::kCount; ++i) {
        if (g.weight[i] == 0) continue;
        visit(block * ProofLayout::kBlock + g.place[i], int64_t{g.column}, g.weight[i]);
      }
    }
  }
}

}  // namespace planck::jit
