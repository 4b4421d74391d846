// One step of Adam in one pass: the kernel of lit_maprops.stacked.optimizer.
#pragma once
#include "vectors.hpp"

namespace native {

struct AdamSettings {
  double lr, beta1, beta2, eps;
};

// p, m, v [count], a multiple of 8, after `steps` steps with this one.
inline void adam(long count, float* p, float* m, float* v, const float* gradient, float scale, double steps,
                 const AdamSettings& s) {
  const float size = float(s.lr / -std::expm1(steps * std::log(s.beta1)));
  const float inverse_root = float(1.0 / std::sqrt(-std::expm1(steps * std::log(s.beta2))));
  const float fresh = float(1.0 - s.beta1), square = float(1.0 - s.beta2), keep = float(s.beta2), eps = float(s.eps);
  for (long e = 0; e < count; e += LANES) {
    const Vec g = load(gradient + e) * scale;
    Vec first = load(m + e), second = load(v + e);
    first += (g - first) * fresh;
    second = second * keep + g * g * square;
    store(m + e, first), store(v + e, second);
    store(p + e, load(p + e) - size * (first / (sqrt(second) * inverse_root + eps)));
  }
}

}  // namespace native
