// VMAS's simple_spread natively: World.step of vmas/simulator/core.py with spheres alone, and mpe/simple_spread.py.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

#include "few_rows.hpp"
#include "outcome.hpp"

namespace vmas {

// `..._at` are places in a row of the packed state.
struct Rules {
  int32_t agents, sees_agents, numbers, reward_at;
  float dt, kept_speed, collision_force, contact_margin, radius, mass;
  const float* control;    // [actions][2]
  const float* first;      // [numbers], an episode's start but for what is drawn
  const int32_t* body_at;  // [agents][4]: position, velocity, force, control
  const int32_t* goal_at;  // [agents]: a landmark's position
};

class SimpleSpread {
 public:
  using Number = float;

  // The state: what the simulator keeps, [rows][numbers], and observation [rows][A][O].
  SimpleSpread(const void* rules, void* const* state)
      : r_(*static_cast<const Rules*>(rules)),
        packed_(static_cast<float*>(state[0])),
        observed_(static_cast<float*>(state[1])),
        size_(4 + 2 * r_.agents + (r_.sees_agents ? 2 * (r_.agents - 1) : 0)),
        force_(2 * r_.agents),
        nearest_(r_.agents) {}

  void start(int64_t row, const float* noise) {
    float* s = of(row);
    std::copy_n(r_.first, r_.numbers, s);
    const uint64_t key = mixed((uint64_t(noise[0] * 0x1p24) << 24) | uint64_t(noise[1] * 0x1p24));
    uint64_t drawn = 0;
    const auto place = [&](float* to) {
      for (int k = 0; k < 2; ++k, ++drawn)
        to[k] = 2.0f * (float(mixed(key + drawn * 0x9E3779B97F4A7C15u) >> 40) * 0x1p-24f) - 1.0f;
    };
    for (int i = 0; i < r_.agents; ++i) place(body(s, i, POSITION));
    for (int k = 0; k < r_.agents; ++k) place(s + r_.goal_at[k]);
    see(row);
  }

  native::Outcome step(int64_t row, const int64_t* action, const float*, float* reward) {
    float* s = of(row);
    for (int i = 0; i < r_.agents; ++i)
      for (int k = 0; k < 2; ++k)
        force_[2 * i + k] = body(s, i, FORCE)[k] = body(s, i, CONTROL)[k] = r_.control[2 * action[i] + k];
    for (int a = 0; a < r_.agents; ++a)
      for (int b = a + 1; b < r_.agents; ++b) push_apart(s, a, b);
    for (int i = 0; i < r_.agents; ++i) {
      float *position = body(s, i, POSITION), *velocity = body(s, i, VELOCITY);
      for (int k = 0; k < 2; ++k) {
        velocity[k] = velocity[k] * r_.kept_speed + force_[2 * i + k] / r_.mass * r_.dt;
        position[k] += velocity[k] * r_.dt;
      }
    }
    std::fill_n(reward, r_.agents, s[r_.reward_at] = earned(s));
    see(row);
    return {false, false};
  }

  void observe(int64_t row, Number* observation, Number* everything, native::Nonzeros* seen, int64_t between,
               native::Nonzeros& all) {
    const float* from = observed_ + row * r_.agents * size_;
    std::copy_n(from, r_.agents * size_, observation);
    std::copy_n(from, r_.agents * size_, everything);
    for (int i = 0; i < r_.agents; ++i) seen[i * between].take(from + i * size_, size_);
    all.take(from, r_.agents * size_);
  }

  int64_t index(int64_t) const { return 0; }  // states have no numbers

 private:
  enum Part { POSITION, VELOCITY, FORCE, CONTROL };

  float* of(int64_t row) const { return packed_ + row * r_.numbers; }
  float* body(float* s, int agent, Part part) const { return s + r_.body_at[4 * agent + part]; }

  // draws.py's `_mixed`.
  static uint64_t mixed(uint64_t n) {
    n = (n ^ (n >> 30)) * 0xBF58476D1CE4E5B9u;
    n = (n ^ (n >> 27)) * 0x94D049BB133111EBu;
    return n ^ (n >> 31);
  }

  static float distance(const float* one, const float* other) {
    const float x = one[0] - other[0], y = one[1] - other[1];
    return std::sqrt(x * x + y * y);
  }

  // World._get_constraint_forces.
  void push_apart(float* s, int a, int b) {
    const float *one = body(s, a, POSITION), *other = body(s, b, POSITION);
    const float far = distance(one, other), touch = r_.radius + r_.radius;
    if (far > touch || far < 1e-6f) return;
    const float deep = (touch - far) / r_.contact_margin;
    const float penetration = (deep + std::log1p(std::exp(-deep))) * r_.contact_margin;
    for (int k = 0; k < 2; ++k) {
      const float force = r_.collision_force * (one[k] - other[k]) / far * penetration;
      force_[2 * a + k] += force;
      force_[2 * b + k] -= force;
    }
  }

  // Scenario.reward: how near each landmark's nearest agent is counts once for every agent.
  float earned(float* s) {
    for (int k = 0; k < r_.agents; ++k) {
      nearest_[k] = INFINITY;
      for (int j = 0; j < r_.agents; ++j)
        nearest_[k] = std::min(nearest_[k], distance(body(s, j, POSITION), s + r_.goal_at[k]));
    }
    float total = 0.0f;
    for (int i = 0; i < r_.agents; ++i) {
      for (const float away : nearest_) total -= away;
      for (int j = 0; j < r_.agents; ++j) {
        const bool overlap = distance(body(s, j, POSITION), body(s, i, POSITION)) - r_.radius - r_.radius < 0.0f;
        if (j != i && overlap) total -= 1.0f;
      }
    }
    return total;
  }

  // Scenario.observation, of all agents.
  void see(int64_t row) {
    float *s = of(row), *to = observed_ + row * r_.agents * size_;
    for (int i = 0; i < r_.agents; ++i) {
      const float* me = body(s, i, POSITION);
      to = std::copy_n(me, 2, to);
      to = std::copy_n(body(s, i, VELOCITY), 2, to);
      const auto way = [&](const float* there) { *to++ = there[0] - me[0], *to++ = there[1] - me[1]; };
      for (int k = 0; k < r_.agents; ++k) way(s + r_.goal_at[k]);
      for (int j = 0; j < r_.agents && r_.sees_agents; ++j)
        if (j != i) way(body(s, j, POSITION));
    }
  }

  const Rules& r_;
  float *packed_, *observed_;
  int size_;  // of one agent's observation
  std::vector<float> force_, nearest_;
};

}  // namespace vmas
