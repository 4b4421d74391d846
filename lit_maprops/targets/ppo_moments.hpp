// What training keeps of a network beside its weights, in torch's memory between two calls.
#pragma once
#include "ppo_data.hpp"

namespace ppo {

inline bool finite_weights(const Network& net) {
  Vec total = all(0.0f);
  for (long e = 0; e < net.held(); e += LANES) total += 0.0f * load(&net.weights[e]);
  return sum(total) == 0.0f;
}

// Adam's of one network, with the gradient of its next step.
struct Moments {
  Floats first, second, gradient;
  float steps = 0.0f;

  template <class Held>
  void read(Network& net, const Held& held, long at, float taken) {
    for (auto* numbers : {&first, &second, &gradient}) numbers->resize(net.held());
    net.read(held.flat + at, net.weights.data());
    net.read(held.exp_avg + at, first.data()), net.read(held.exp_avg_sq + at, second.data());
    steps = taken;
  }
  template <class Held>
  void write(const Network& net, const Held& held, long at, float& taken) const {
    net.write(net.weights.data(), held.flat + at);
    net.write(first.data(), held.exp_avg + at), net.write(second.data(), held.exp_avg_sq + at);
    taken = steps;
  }
  void step(Network& net, float scale, const AdamSettings& settings) {
    steps += 1.0f;
    adam(net.held(), net.weights.data(), first.data(), second.data(), gradient.data(), scale, steps, settings);
  }
  // In eight sums.
  Vec squares() const {
    Vec squares = all(0.0f), more = all(0.0f);
    size_t e = 0;
    for (; e + 2 * LANES <= gradient.size(); e += 2 * LANES) {
      const Vec g = load(&gradient[e]), h = load(&gradient[e + LANES]);
      squares += g * g, more += h * h;
    }
    if (e < gradient.size()) squares += load(&gradient[e]) * load(&gradient[e]);
    return squares + more;
  }
};

}  // namespace ppo
