// How panels of integer weights are split: what is proven of them holds for every A, the weights
// come back, and a panel that says more than that is refused.
#include "kernels/jit/qproofs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/jit/qmatching.h"

namespace planck::jit {
namespace {

constexpr int64_t kColumns = ProofLayout::kColumns;

struct Panel {
  // About normal, as trained weights are; deviation in steps of the grid.
  Panel(int64_t k, double deviation) : layout(k) {
    std::mt19937 random(3);
    std::normal_distribution<double> normal(0, deviation);
    weights.assign(static_cast<size_t>(layout.groups_at), 0);
    for (int64_t i = 0; i < k; ++i) {
      for (int64_t j = 0; j < kColumns; ++j) {
        const double w = std::clamp(normal(random), -128.0, 127.0);
        weights[static_cast<size_t>((i / 4 * kColumns + j) * 4 + i % 4)] = static_cast<int8_t>(w);
      }
    }
    bytes.assign(static_cast<size_t>(layout.bytes), 0);
    std::ranges::copy(weights, bytes.begin());
    prove_panel(layout, bytes.data());
  }

  PanelForm form() const { return layout.form(bytes.data()); }
  int64_t groups() const {
    int64_t all = 0;
    for (int64_t b = 0; b < layout.blocks; ++b) all += layout.count(bytes.data(), b);
    return all;
  }
  bool holds() const { return panel_holds(layout, bytes.data()); }
  std::vector<int8_t> restored() const {
    std::vector<int8_t> out(weights.size());
    restore_panel(layout, bytes.data(), out.data());
    return out;
  }

  ProofLayout layout;
  std::vector<int8_t> weights, bytes;
};

// The largest and the smallest sum that bytes of A can make of weights.
void expect_fits(const std::vector<int>& weights) {
  int most = 0, least = 0;
  for (const int w : weights) (w > 0 ? most : least) += 255 * w;
  ASSERT_LE(most, INT16_MAX);
  ASSERT_GE(least, INT16_MIN);
}

TEST(Qproofs, FormFollowsTheWeights) {
  struct Expected {
    double deviation;
    PanelForm form;
    bool corrected;
  };
  for (const int64_t k : {128, 515, 1027}) {
    for (const Expected& e : {Expected{10, PanelForm::fours, false},
                              {38, PanelForm::fours, true},
                              {52, PanelForm::pairs, true},
                              {200, PanelForm::any, false}}) {
      const Panel panel(k, e.deviation);
      EXPECT_EQ(panel.form(), e.form) << k << " " << e.deviation;
      EXPECT_EQ(panel.layout.corrected(panel.bytes.data()), e.corrected);
      EXPECT_EQ(panel.groups() > 0, e.corrected);
      EXPECT_TRUE(panel.holds());
      EXPECT_EQ(panel.restored(), panel.weights);
    }
  }
}

TEST(Qproofs, NoSumLeavesSixteenBits) {
  for (const int64_t k : {4, 8, 13, 64, 520, 1021}) {
    for (const double deviation : {30, 40, 50, 70}) {
      const Panel panel(k, deviation);
      const int8_t* w = panel.bytes.data();
      const int64_t step = panel.form() == PanelForm::fours ? 2 : 1;
      const int64_t groups = panel.layout.k / 4;
      for (int64_t g = 0; g < groups && panel.form() != PanelForm::any; g += step) {
        for (int64_t pair = 0; pair < 2 * kColumns; ++pair) {
          std::vector<int> set;
          for (int64_t i = g; i < std::min(g + step, groups); ++i) {
            for (int64_t e = 0; e < 2; ++e) set.push_back(w[i * 4 * kColumns + pair * 2 + e]);
          }
          expect_fits(set);
        }
      }
      for (int64_t g = 0; g < panel.groups(); ++g) {
        std::vector<int> set;
        for (const int8_t c : panel.layout.groups(w)[g].weight) set.push_back(c);
        expect_fits(set);
      }
    }
  }
}

// A group of k that is not whole is read last.
TEST(Qproofs, AnIncompleteGroupStaysTheLast) {
  for (const int64_t k : {5, 126, 515, 1027}) {
    const Panel panel(k, 38);
    const int64_t last = panel.layout.k / 4 - 1;
    EXPECT_EQ(panel.layout.order(panel.bytes.data())[last], last % ProofLayout::kOrdered);
  }
}

TEST(Qproofs, ForgedPanelsAreRefused) {
  const Panel honest(700, 40);
  ASSERT_EQ(honest.form(), PanelForm::fours);
  ASSERT_TRUE(honest.holds());
  const ProofLayout& layout = honest.layout;
  const auto refused = [&](const char* what, auto&& change) {
    Panel forged = honest;
    change(forged.bytes.data());
    EXPECT_FALSE(forged.holds()) << what;
  };
  const auto group = [&](int8_t* panel) {
    return reinterpret_cast<CorrectionGroup*>(panel + layout.groups_at);
  };
  refused("weights", [](int8_t* p) { p[0] = p[1] = 127; });
  refused("form", [&](int8_t* p) { p[layout.form_at] = 3; });
  refused("nothing proven but corrected", [&](int8_t* p) { p[layout.form_at] = 0; });
  refused("pairs in another order", [&](int8_t* p) { p[layout.form_at] = 1; });
  refused("corrections that it denies", [&](int8_t* p) { p[layout.form_at + 1] = 0; });
  refused("a group twice", [&](int8_t* p) { p[layout.order_at] = p[layout.order_at + 1]; });
  refused("a group that is not there", [&](int8_t* p) { p[layout.order_at] = -1; });
  refused("too many corrections", [&](int8_t* p) { p[layout.counts_at + 1] = 127; });
  refused("large corrections",
          [&](int8_t* p) { std::memset(group(p)->weight, 127, sizeof(group(p)->weight)); });
  refused("a correction of column 16", [&](int8_t* p) { group(p)->column = 16; });
  refused("a place behind the block, of nothing", [&](int8_t* p) {
    CorrectionGroup& first = *group(p);
    first.place[3] = ProofLayout::kBlock, first.weight[3] = 0;
  });
  refused("a correction behind k", [&](int8_t* p) {
    CorrectionGroup& last = group(p)[honest.groups() - 1];
    last.place[0] = 300, last.weight[0] = 1;
  });
}

TEST(Qmatching, PartnersAreAPermutationAndNoWorseThanNeighbours) {
  std::mt19937 random(5);
  for (const size_t count : {0, 1, 2, 7, 64, 128}) {
    std::vector<GroupParts> groups(count);
    for (GroupParts& g : groups) {
      for (int16_t& part : g.part) part = static_cast<int16_t>(random() % 100);
    }
    std::vector<uint8_t> order(count), sorted(count), all(count);
    match_groups(groups, 128, order);
    sorted = order;
    std::ranges::sort(sorted);
    std::iota(all.begin(), all.end(), uint8_t{0});
    EXPECT_EQ(sorted, all);
    const auto cost = [&](const std::vector<uint8_t>& list) {
      int sum = 0;
      for (size_t i = 0; i + 1 < list.size(); i += 2) {
        for (size_t p = 0; p < kMatchedParts; ++p) {
          sum += groups[list[i]].part[p] + groups[list[i + 1]].part[p] > 128;
        }
      }
      return sum;
    };
    EXPECT_LE(cost(order), cost(all)) << count;
    if (count == 128) {
      EXPECT_LT(8 * cost(order), 7 * cost(all));
    }
  }
}

}  // namespace
}  // namespace planck::jit
