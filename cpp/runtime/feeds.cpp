#include "runtime/feeds.h"

#include <algorithm>

namespace planck {
namespace {

std::string got_text(const Feed& feed) {
  return cat(info(feed.dtype).numpy, shape_text(feed.shape));
}

std::string input_names(const Plan& plan) {
  std::vector<std::string> names;
  for (const PlanPort& p : plan.inputs) names.push_back(cat("'", p.name, "'"));
  return joined(names);
}

[[noreturn]] void refuse_feed(const PlanPort& port, const Feed& feed, const std::string& what,
                              const std::string& hint = "") {
  throw with(FeedError("input '", port.name, "': ", what, "; expected ", port_text(port), ", got ",
                       got_text(feed), hint.empty() ? "" : "; ", hint),
             {.expected = port_text(port), .got = got_text(feed), .hint = hint});
}

// Integers may come in the other width, since many tools make 32-bit ids.
bool takes(DType want, DType got) {
  return want == got || (want == DType::s64 && got == DType::s32) ||
         (want == DType::s32 && got == DType::s64);
}

void check_type(const PlanPort& port, const Feed& feed) {
  if (!takes(port.dtype, feed.dtype)) {
    refuse_feed(port, feed, "wrong dtype",
                cat("convert it with astype('", info(port.dtype).numpy, "')"));
  }
  if (feed.shape.size() != port.shape.size()) {
    refuse_feed(port, feed, cat("rank ", feed.shape.size(), " instead of ", port.shape.size()));
  }
}

}  // namespace

std::string port_text(const PlanPort& port) {
  return cat(info(port.dtype).numpy, '[', joined(port.shape, ","), ']');
}

void match_feeds(const Plan& plan, std::span<const Feed> feeds, std::vector<const Feed*>& matched) {
  matched.assign(plan.inputs.size(), nullptr);
  for (const Feed& feed : feeds) {
    const auto port = std::ranges::find(plan.inputs, feed.name, &PlanPort::name);
    if (port == plan.inputs.end()) {
      throw with(
          FeedError("the model has no input '", feed.name, "'; its inputs are ", input_names(plan)),
          {.expected = input_names(plan), .got = std::string(feed.name)});
    }
    const Feed*& slot = matched[static_cast<size_t>(port - plan.inputs.begin())];
    if (slot != nullptr) throw FeedError("input '", feed.name, "' is given twice");
    slot = &feed;
  }
  for (size_t i = 0; i < matched.size(); ++i) {
    if (matched[i] == nullptr) {
      throw with(FeedError("input '", plan.inputs[i].name, "' is missing; expected ",
                           port_text(plan.inputs[i])),
                 {.expected = port_text(plan.inputs[i]), .got = "nothing"});
    }
    check_type(plan.inputs[i], *matched[i]);
  }
}

Bindings bind_symbols(const Plan& plan, std::span<const Feed* const> matched) {
  Bindings bindings;
  for (size_t i = 0; i < matched.size(); ++i) {
    const PlanPort& port = plan.inputs[i];
    for (size_t axis = 0; axis < port.shape.size(); ++axis) {
      const Dim& dim = port.shape[axis];
      const int64_t extent = matched[i]->shape[axis];
      if (dim.is_constant()) {
        if (dim.constant() != extent) {
          refuse_feed(port, *matched[i], cat("axis ", axis, " is ", extent));
        }
        continue;
      }
      const auto [at, fresh] = bindings.emplace(dim.as_symbol(), extent);
      if (!fresh && at->second != extent) {
        refuse_feed(port, *matched[i],
                    cat("'", at->first, "' is ", extent, " here and ", at->second,
                        " in an input before it"));
      }
    }
  }
  return bindings;
}

}  // namespace planck
