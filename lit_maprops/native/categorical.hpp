// Categoricals over a few actions: the kernel of lit_maprops.distributions.joint.
#pragma once
#include <limits>

#include "vectors.hpp"

namespace native {

constexpr float NONE = -std::numeric_limits<float>::infinity();  // log-probability of padding

// log of the sum of exp(x), `width` numbers padded with -inf.
inline float log_sum_exp(const float* x, int width) {
  float most = x[0];
  for (int k = 1; k < width; ++k) most = x[k] > most ? x[k] : most;
  if (!(most > NONE)) most = 0.0f;  // nothing has a chance, or the first is NaN: the sum says so
  Vec total = all(0.0f);
  for (int k = 0; k < width; k += LANES) total += exp(load(x + k) - most);
  return most + std::log(sum(total));
}

// joint.sample: `chance` [padded(count)] is scratch.
inline int64_t sample(const float* log_probs, int count, float uniform, float* chance) {
  for (int k = 0; k < count; k += LANES) store(chance + k, exp(load(log_probs + k)));
  double total = 0.0;
  for (int k = 0; k < count; ++k) chance[k] = float(total += double(chance[k]));
  const float limit = uniform * chance[count - 1];
  int chosen = 0;
  while (chosen < count - 1 && chance[chosen] <= limit) ++chosen;
  return chosen;
}

// joint.kl_divergence; both padded with -inf.
inline float kl_divergence(const float* log_p, const float* log_q, int width) {
  Vec total = all(0.0f);
  for (int k = 0; k < width; k += LANES) {
    const Vec lp = load(log_p + k), p = exp(lp);
    total += p > 0.0f ? p * (lp - load(log_q + k)) : all(0.0f);
  }
  return sum(total);
}

}  // namespace native
