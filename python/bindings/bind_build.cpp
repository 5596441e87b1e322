#include <pybind11/stl.h>

#include <functional>

#include "arrays.h"
#include "bindings.h"
#include "builder/build.h"
#include "builder/observe.h"
#include "limits.h"
#include "log.h"
#include "passes/pass.h"
#include "passes/place_facts.h"
#include "py_plan.h"

namespace planck {

namespace {

// {"name": (scale, zero_point, "s8" or "u8", axis or -1)}: checked by planck.TensorScale.
Grids grids_from(const py::dict& given) {
  Grids out;
  for (const auto& [name, row] : given) {
    const auto [scale, zero_point, dtype, axis] =
        row.cast<std::tuple<std::vector<float>, std::vector<int32_t>, std::string, int64_t>>();
    QParams grid{dtype == "u8" ? DType::u8 : DType::s8, scale, zero_point, axis, 0};
    out.emplace(name.cast<std::string>(), std::move(grid));
  }
  return out;
}

PlacementOptions placement_from(const py::dict& given) {
  PlacementOptions o;
  for (const auto& [key, value] : given) {
    const std::string name = py::str(key);
    const auto text = [&] { return value.cast<std::string>(); };
    const auto texts = [&] { return value.cast<std::vector<std::string>>(); };
    if (name == "recipe") {
      o.recipe = text();
    } else if (name == "weights") {
      o.weights = text();
    } else if (name == "weight_method") {
      o.weight_method = text();
    } else if (name == "include") {
      o.include = texts();
    } else if (name == "exclude") {
      o.exclude = texts();
    } else if (name == "depthwise") {
      o.depthwise = value.cast<bool>();
    } else if (name == "bound") {
      o.bound = value.cast<std::set<std::string>>();
    } else {
      throw with(UsageError("placement has no option '", name, "'"), {.got = name});
    }
  }
  return o;
}

using Set = void (*)(BuildOptions& options, const py::handle& value);

struct Option {
  std::string_view name;
  Set set;
};

constexpr Option kOptions[] = {
    {"precision",
     [](BuildOptions& o, const py::handle& v) { o.precision = v.cast<std::string>(); }},
    {"device", [](BuildOptions& o, const py::handle& v) { o.device = v.cast<std::string>(); }},
    {"fallback", [](BuildOptions& o, const py::handle& v) { o.fallback = v.cast<std::string>(); }},
    {"disabled_passes",
     [](BuildOptions& o, const py::handle& v) {
       o.disabled_passes = v.cast<std::vector<std::string>>();
     }},
    {"stop_after_patch",
     [](BuildOptions& o, const py::handle& v) { o.stop_after_patch = v.cast<int64_t>(); }},
    {"dims",
     [](BuildOptions& o, const py::handle& v) {
       for (const auto& [name, extent] : v.cast<py::dict>()) {
         const auto key = name.cast<std::string>();
         o.dims[key] = whole_number("dims." + key, extent);
       }
     }},
    {"initializers",
     [](BuildOptions& o, const py::handle& v) {
       for (const auto& [name, value] : v.cast<py::dict>()) {
         const auto key = name.cast<std::string>();
         const auto array = dense_array(py::reinterpret_borrow<py::object>(value), key);
         o.initializers.emplace(key, tensor_of(array, key));
       }
     }},
    {"scales",
     [](BuildOptions& o, const py::handle& v) { o.scales = grids_from(v.cast<py::dict>()); }},
    {"placement", [](BuildOptions& o,
                     const py::handle& v) { o.placement = placement_from(v.cast<py::dict>()); }},
    {"fed_initializers",
     [](BuildOptions& o, const py::handle& v) {
       o.fed_initializers = v.cast<std::set<std::string>>();
     }},
    {"extra_outputs",
     [](BuildOptions& o, const py::handle& v) {
       o.extra_outputs = v.cast<std::vector<std::string>>();
     }},
    {"inspectable", [](BuildOptions& o, const py::handle& v) { o.inspectable = v.cast<bool>(); }},
    {"external_data_dir",
     [](BuildOptions& o, const py::handle& v) { o.external_data_dir = v.cast<std::string>(); }},
    {"limits",
     [](BuildOptions& o, const py::handle& v) { o.limits = limits_from(v.cast<py::dict>()); }},
    {"cancel",
     [](BuildOptions& o, const py::handle& v) { o.cancel = v.cast<std::shared_ptr<Cancel>>(); }},
};

BuildOptions options_from(const py::dict& given) {
  BuildOptions options;
  for (const auto& [key, value] : given) {
    const std::string name = py::str(key);
    const auto* row = std::ranges::find(kOptions, name, &Option::name);
    if (row == std::end(kOptions)) {
      throw with(UsageError("build has no option '", name, "'"), {.got = name});
    }
    try {
      row->set(options, value);
    } catch (const py::cast_error&) {
      const std::string type = py::str(py::type::of(value).attr("__name__"));
      throw with(UsageError("the option ", name, " has the wrong type, ", type), {.got = type});
    }
  }
  return options;
}

// Asks the callback, and Python whether Ctrl-C was pressed. What they raise ends the build and is
// raised again when it has ended, as no C++ code may see it.
class Progress {
 public:
  explicit Progress(py::object callback) : callback_(std::move(callback)) {}

  bool go_on(std::string_view stage, double done) {
    const py::gil_scoped_acquire gil;
    try {
      if (PyErr_CheckSignals() != 0) throw py::error_already_set();
      if (callback_.is_none()) return true;
      return callback_(std::string(stage), done).cast<bool>();
    } catch (...) {
      raised_ = std::current_exception();
      return false;
    }
  }

  auto run(auto&& body) {
    try {
      const py::gil_scoped_release release;
      return body();
    } catch (const CancelledError&) {
      if (raised_ != nullptr) std::rethrow_exception(raised_);
      throw;
    }
  }

 private:
  py::object callback_;
  std::exception_ptr raised_;
};

std::shared_ptr<PyPlan> built(const py::dict& given, int threads, bool flush,
                              const py::object& callback, auto&& build) {
  const LogCall log_call(true);
  BuildOptions options = options_from(given);
  Progress progress(callback);
  options.progress = [&](std::string_view stage, double done) {
    return progress.go_on(stage, done);
  };
  const SessionOptions session{threads, options.limits, denormals_of(flush)};
  return progress.run([&] { return make_py_plan(build(options), session); });
}

// --- placement, as planck.quantize writes it into a file --------------------------------------
py::list uses_of(const PlacedTensor& t) {
  py::list out;
  for (const PlacedUse& u : t.uses) out.append(py::make_tuple(u.source, u.input));
  return out;
}

py::dict row_of(const PlacedTensor& t) {
  py::dict row;
  row["name"] = t.name;
  row["scale"] = t.grid.scale;
  row["zero_point"] = t.grid.zero_point;
  row["dtype"] = std::string(dtype_name(t.grid.dtype));
  row["axis"] = t.grid.axis;
  row["uses"] = uses_of(t);
  return row;
}

// "uses" are nodes and their inputs: indices into the nodes of the model in the order of the file,
// those of sub-graphs and of functions after the node that they belong to. "halves" are the ONNX
// types of tensors in half precision.
py::dict described(const PlacedModel& model) {
  const Graph& g = model.graph;
  py::list activations, weights, quantised, names, kept;
  for (const PlacedTensor& t : model.placement.activations) activations.append(row_of(t));
  for (const PlacedTensor& t : model.placement.weights) {
    py::dict row = row_of(t);
    row["values"] = array_of(quantised_weight(g, t));
    weights.append(row);
  }
  const auto source = [&](NodeId id) {
    const Node& n = g.node(id);
    const int32_t own = source_of(g, n);
    return own < 0 ? n.origin.back() : own;
  };
  for (const NodeId n : model.placement.quantised) {
    quantised.append(source(n));
    names.append(g.sources->at(static_cast<size_t>(source(n))).name);
  }
  for (const KeptFloat& k : model.placement.kept) {
    kept.append(py::make_tuple(g.sources->at(static_cast<size_t>(source(k.node))).name,
                               g.node(k.node).op->text(), k.reason));
  }
  py::dict out;
  out["recipe"] = model.placement.recipe;
  out["sources"] = g.sources->size();
  out["activations"] = activations;
  out["weights"] = weights;
  py::dict halves;
  for (const auto& [name, dtype] : model.halves) halves[py::str(name)] = info(dtype).onnx;
  out["halves"] = halves;
  out["quantised"] = quantised;
  out["quantised_names"] = names;
  out["kept"] = kept;
  return out;
}

auto without_gil(auto&& body) {
  const py::gil_scoped_release release;
  return body();
}

py::tuple rows_of(const Activations& all) {
  py::list floats;
  for (const Activation& a : all.floats) {
    py::dict row;
    row["name"] = a.name;
    row["input"] = a.input;
    row["product"] = a.product;
    row["channels"] = a.channels;
    row["windows"] = a.windows;
    row["group"] = a.group;
    floats.append(row);
  }
  return py::make_tuple(floats, py::cast(all.others));
}

}  // namespace

void bind_build(py::module_& m) {
  m.def(
      "build_file",
      [](const std::string& path, const py::dict& options, int threads, const py::object& progress,
         bool flush) {
        return built(options, threads, flush, progress,
                     [&](const BuildOptions& o) { return build_file(path, o); });
      },
      py::arg("path"), py::arg("options"), py::arg("threads"), py::arg("progress") = py::none(),
      py::arg("flush") = false);
  m.def(
      "build_bytes",
      [](const py::bytes& model, const py::dict& options, int threads, const py::object& progress,
         bool flush) {
        const auto bytes = std::as_bytes(std::span(std::string_view(model)));
        return built(options, threads, flush, progress,
                     [&](const BuildOptions& o) { return build_bytes(bytes, o); });
      },
      py::arg("model"), py::arg("options"), py::arg("threads"), py::arg("progress") = py::none(),
      py::arg("flush") = false);
  m.def(
      "graph_text",
      [](const std::string& path, const py::dict& given) {
        const BuildOptions options = options_from(given);
        const py::gil_scoped_release release;
        return graph_text(path, options);
      },
      py::arg("path"), py::arg("options"));
  m.def(
      "place_file",
      [](const std::string& path, const py::dict& options) {
        const LogCall log_call(true);
        return described(place_file(path, options_from(options)));
      },
      py::arg("path"), py::arg("options"));
  m.def(
      "place_bytes",
      [](const py::bytes& model, const py::dict& options) {
        const LogCall log_call(true);
        const auto bytes = std::as_bytes(std::span(std::string_view(model)));
        return described(place_bytes(bytes, options_from(options)));
      },
      py::arg("model"), py::arg("options"));
  m.def(
      "tensor_ranks",
      [](const py::bytes& model) {
        const auto bytes = std::as_bytes(std::span(std::string_view(model)));
        return tensor_ranks(bytes, {});
      },
      py::arg("model"));
  m.def(
      "activations",
      [](const py::object& model, const py::dict& given) {
        const BuildOptions options = options_from(given);
        if (!py::isinstance<py::bytes>(model)) {
          const auto path = model.cast<std::string>();
          return rows_of(without_gil([&] { return activations_of_file(path, options); }));
        }
        const auto bytes = std::as_bytes(std::span(std::string_view(model.cast<py::bytes>())));
        return rows_of(without_gil([&] { return activations_of_bytes(bytes, options); }));
      },
      py::arg("model"), py::arg("options"));
  m.def("pass_names", pass_names);
}

}  // namespace planck
