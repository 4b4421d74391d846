// What PPO asks of one agent's policy, eight rows at a time: the gradient of its losses, and how far it has moved.
#pragma once
#include <cfloat>

#include "ppo_data.hpp"

namespace ppo {

struct Losses {
  double policy = 0.0, critic = 0.0, entropy = 0.0;
  Losses over(double steps) const { return {policy / steps, critic / steps, entropy / steps}; }  // 0 of 0 is NaN
};

struct Drift {
  double kl = 0.0, clipped = 0.0, entropy = 0.0;
};

// Numbers of the rows in the lanes.
struct Lanes {
  int64_t row[LANES];
  const float* output[LANES];
  Ints action;
  Vec log_prob, advantage, weight;

  // Of `count` rows those from `start` on; lanes beyond the last weigh nothing.
  Lanes(const Agent& agent, const float* of_first, int stride, Rows rows, int start) {
    for (int i = 0; i < LANES; ++i) {
      const int r = std::min(start + i, rows.count - 1);
      row[i] = rows[r];
      output[i] = of_first + long(r) * stride;
      action[i] = agent.action[row[i]], log_prob[i] = agent.log_prob[row[i]];
      advantage[i] = agent.advantage[row[i]];
      weight[i] = start + i < rows.count ? agent.weight[row[i]] : 0.0f;
    }
  }
  Vec weigh(Vec value) const { return weight == 0.0f ? all(0.0f) : value * weight; }
};

// Policies of up to eight rows: a vector for every action that the agent has.
class Policies {
 public:
  explicit Policies(int actions) : log_p(actions), p(actions) {}

  // From outputs; actions that are not legal have probability 0, and for the logarithm the lowest number.
  void normalize(const Lanes& l, const Agent& agent) {
    Vec largest = all(-INFINITY), total = all(0.0f);
    for (int k : agent.actions) {
      Vec z;
      for (int i = 0; i < LANES; ++i) z[i] = l.output[i][k];
      if (agent.legal)
        for (int i = 0; i < LANES; ++i) z[i] = agent.legal[l.row[i] * agent.between + k] ? z[i] : -INFINITY;
      log_p[k] = z;
      largest = z > largest ? z : largest;
    }
    for (int k : agent.actions) total += p[k] = exp(log_p[k] - largest);
    const Vec log_total = largest + log(total), share = 1.0f / total, lowest = all(-FLT_MAX);
    entropy = all(0.0f);
    for (int k : agent.actions) {
      log_p[k] -= log_total, p[k] *= share;
      log_p[k] = log_p[k] < lowest ? lowest : log_p[k];
      entropy -= p[k] * log_p[k];
    }
  }

  Vec of_action(Ints action, const Agent& agent) const {
    Vec found = all(-INFINITY);
    for (int k : agent.actions) found = action == k ? log_p[k] : found;
    return found;
  }

  std::vector<Vec> log_p, p;
  Vec entropy;
};

// Gradient of the clipped loss and the entropy bonus in the agent's outputs, means over the rows; adds the losses.
// Not inlined: which products and sums are fused, so how it rounds, would hang on what the compiler sees around it.
__attribute__((noinline)) inline void policy_gradient(const Update& u, const Agent& agent, Policies& policies,
                                                      Rows rows, const float* output, float* of_output, int stride,
                                                      Losses& losses) {
  const int count = rows.count;
  const float at_lowest = exp(all(u.lowest))[0], at_highest = exp(all(u.highest))[0];
  Vec loss = all(0.0f), entropies = all(0.0f);
  for (int start = 0; start < count; start += LANES) {
    const Lanes l(agent, output, stride, rows, start);
    policies.normalize(l, agent);
    const Vec moved = policies.of_action(l.action, agent) - l.log_prob;
    const Vec ratio = exp(moved);
    const Vec clipped = moved < u.lowest ? all(at_lowest) : moved > u.highest ? all(at_highest) : ratio;
    const Vec gain = ratio * l.advantage, gain_clipped = clipped * l.advantage;
    const auto is_clipped = gain_clipped < gain;  // false for NaN, which stays
    loss -= l.weigh(is_clipped ? gain_clipped : gain);
    const auto known = policies.entropy == policies.entropy;
    entropies += l.weigh(known ? policies.entropy : all(0.0f));
    const Vec of_log_p = l.weigh(is_clipped ? all(0.0f) : -gain) / float(count);
    const Vec bonus = l.weigh(known ? all(u.entropy_coeff) : all(0.0f)) / float(count);
    const int used = std::min(LANES, count - start);
    for (int k : agent.actions) {
      const Vec p = policies.p[k];
      const Vec of_entropy = known ? p * (policies.log_p[k] + policies.entropy) : all(0.0f);
      const Vec g = of_log_p * ((l.action == k ? all(1.0f) : all(0.0f)) - p) + bonus * of_entropy;
      const Vec out = l.weight == 0.0f ? all(0.0f) : g;
      for (int i = 0; i < used; ++i) of_output[long(start + i) * stride + k] = out[i];
    }
  }
  losses.policy += double(sum(loss)) / count;
  losses.entropy -= double(u.entropy_coeff) * double(sum(entropies)) / count;
}

// Exact KL(old || new), clipped ratios and entropies of the rows, summed into `drift`.
inline void add_drift(const Update& u, const Agent& agent, const float* old, Policies& policies, Rows rows,
                      const float* output, int stride, Drift& drift) {
  Vec kl = all(0.0f), clipped = all(0.0f), entropies = all(0.0f);
  for (int start = 0; start < rows.count; start += LANES) {
    const Lanes l(agent, output, stride, rows, start);
    policies.normalize(l, agent);
    Vec divergence = all(0.0f);
    for (int k : agent.actions) {
      Vec before;
      for (int i = 0; i < LANES; ++i) before[i] = old[l.row[i] * u.agents * u.actions + k];
      const Vec p = exp(before);
      divergence += p > 0.0f ? p * (before - policies.log_p[k]) : all(0.0f);
    }
    const Vec change = exp(policies.of_action(l.action, agent) - l.log_prob) - 1.0f;
    const auto beyond = (change > u.clip_epsilon) | (change < -u.clip_epsilon);
    kl += l.weigh(divergence), entropies += l.weigh(policies.entropy);
    clipped += l.weigh(beyond ? all(1.0f) : all(0.0f));
  }
  drift.kl += sum(kl), drift.clipped += sum(clipped), drift.entropy += sum(entropies);
}

// Multiplies pi_new / pi_old of the actions of the rows into `compound`, 1 where the agent has left.
inline void multiply_ratios(const Agent& agent, Policies& policies, Rows rows, const float* output, int stride,
                            float* compound) {
  for (int start = 0; start < rows.count; start += LANES) {
    const Lanes l(agent, output, stride, rows, start);
    policies.normalize(l, agent);
    const Vec ratio = exp(policies.of_action(l.action, agent) - l.log_prob);
    for (int i = 0; i < std::min(LANES, rows.count - start); ++i)
      if (l.weight[i] != 0.0f) compound[l.row[i]] *= ratio[i];
  }
}

}  // namespace ppo
