#include "bindings.h"

// The table of contents of planck._core, and nothing else.
PYBIND11_MODULE(_core, m) {
  m.doc() = "Planck core: build and run inference plans.";
  planck::bind_errors(m);     // first: everything below may raise
  planck::bind_device(m);     // device facts and knobs
  planck::bind_log();         // lines go to logging.getLogger("planck")
  planck::bind_limits(m);     // limits by name, Cancel
  planck::bind_ops(m);        // op table and references, for tests and notebooks
  planck::bind_scales(m);     // scale files of other tools
  planck::bind_plan(m);       // Plan and its session
  planck::bind_inspect(m);    // comparison by tensor, taps
  planck::bind_build(m);      // build(model, options) -> Plan
  planck::bind_calibrate(m);  // statistics of tensors and their grids
}
