#include "base/device.h"
#include "base/knobs.h"
#include "bindings.h"

namespace planck {

void bind_device(py::module_& m) {
  m.def(
      "device",
      [] {
        const Device& d = this_device();
        py::dict out;
        out["cpu"] = d.cpu;
        out["isa"] = std::string(isa_name(d.best));
        out["cores"] = d.cores;
        out["l1_bytes"] = d.l1_bytes;
        out["l2_bytes"] = d.l2_bytes;
        out["l3_bytes"] = d.l3_bytes;
        return out;
      },
      "What the CPU offers: cpu, isa, cores, l1_bytes, l2_bytes, l3_bytes.");
  m.def("knobs", list_knobs, "Every environment variable that is read, a line each.");
}

}  // namespace planck
