// The collection of D natively: seed by seed, all steps of a call in a row.
#include "rollout.hpp"
#include "workers.hpp"

extern "C" int lit_maprops_rollout(const native::Rollout* call) {
  return native::with_task(*call, [&](auto make) { return int(native::for_all(call->seeds, call->threads, make)); });
}
