#include "python/core/bind.h"

NB_MODULE(_core, m) {
  m.doc() = "plait's library. The package around it is the door: import plait.";
  plait::python::bind_errors(m);
  plait::python::bind_tables(m);
  plait::python::bind_schedule(m);
  plait::python::bind_proof(m);
  plait::python::bind_price(m);
  plait::python::bind_timeline(m);
  plait::python::bind_compare(m);
  plait::python::bind_metrics(m);
}
