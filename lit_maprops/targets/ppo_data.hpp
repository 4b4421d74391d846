// What a call of ppo.cpp hands over, and the parts of it that one seed needs.
#pragma once
#include <algorithm>
#include <vector>

#include "adam.hpp"
#include "cell.hpp"

namespace ppo {

using namespace native;

// The policies or the critics of all seeds, one network after the other without gaps.
struct Stack {
  int32_t networks, layers;        // networks: of a seed, one or as many as there are agents
  int32_t clocks;                  // step counts of a seed: one, or one for every network
  const int32_t* shapes;           // [layers][3]: out, in, has a bias
  float *flat, *exp_avg, *exp_avg_sq;  // [seeds][networks][P]
  float* steps_taken;              // [seeds][clocks]
};

// What networks carry from step to step, in its place: before every row of D and after it, [seeds][rows][parts][carried].
// The weights are those of the cells and of what is behind them; a `Stack` then has what is below.
struct Memory {
  int32_t kind, units, out, parts;  // kind: of `Remembers`
  const float *before, *after;
  float *flat, *exp_avg, *exp_avg_sq;  // [seeds][networks][P]
  float* steps_taken;                  // [seeds][clocks]
};

enum Type : int32_t { FLOATS, BYTES, SIGNED_BYTES };

// Inputs of networks, [seeds][rows][parts][width]: of this step and of the one that follows.
struct Numbers {
  const void *here, *next;
  int32_t type, parts, width;
};

// `rows` = batches * steps * envs, in this order. Everything else is [seeds][rows][agents].
struct Update {
  int32_t seeds, batches, steps, envs, agents, actions, epochs, minibatches, length, threads;
  Stack policies, critics;
  Memory policies_memory, critics_memory;
  Numbers observation, of_critic;
  const float* reward;
  const uint8_t *done, *terminated;
  const int64_t* action;
  const float *parameters, *log_prob, *weight;  // parameters [...][actions]; weight null: 1
  const uint8_t* mask;                          // [agents][actions], which exist
  const uint8_t* legal;                         // [...][actions], which are in this state; null: all that exist
  const uint8_t* begins;                        // [seeds][rows], before which everything is forgotten; null: none
  const int64_t* order;                         // [epochs][seeds][sequences], see `steps_of`
  const int64_t* turns;                         // [seeds][agents], who updates when; null: all at once
  const uint8_t* learning;                      // [seeds]
  float gamma, carried, clip_epsilon, lowest, highest, clip_value, entropy_coeff, critic_coeff, max_grad_norm, kl_stop;
  AdamSettings adam;
  float* figures;  // [7][seeds], see `Seed::report`
  int rows() const { return batches * steps * envs; }
  int sequences() const { return rows() / length; }
  const int64_t* order_of(int epoch, int seed) const { return order + (int64_t(epoch) * seeds + seed) * sequences(); }
  // The first row of a sequence: `length` steps of an environment, its rows `envs` apart. Without memory a row is one.
  int64_t first_of(int64_t sequence) const { return sequence / envs * length * envs + sequence % envs; }
};

// What one agent did in D of one seed, row by row.
struct Agent {
  std::vector<int> actions;  // those that it has
  const uint8_t* legal;      // of each row, `between` apart: which of all actions are; null: all of its own
  int64_t between;
  std::vector<int32_t> action;
  std::vector<float> log_prob, weight, value, advantage, target;

  void read(const Update& u, int seed, int agent) {
    const int rows = u.rows();
    const int64_t first = int64_t(seed) * rows * u.agents + agent;
    for (auto* numbers : {&log_prob, &weight, &value, &advantage, &target}) numbers->resize(rows);
    actions.clear(), action.resize(rows);
    for (int k = 0; k < u.actions; ++k)
      if (u.mask[agent * u.actions + k]) actions.push_back(k);
    between = int64_t(u.agents) * u.actions;
    legal = u.legal ? u.legal + first * u.actions : nullptr;
    for (int r = 0; r < rows; ++r) {
      const int64_t from = first + int64_t(r) * u.agents;
      action[r] = int32_t(u.action[from]), log_prob[r] = u.log_prob[from];
      weight[r] = u.weight ? u.weight[from] : 1.0f;
    }
  }
};

// A number that counts for nothing where the weight is 0, whatever it is.
template <class Number>
Number weighted(Number value, float weight) {
  return weight == 0.0f ? Number(0) : value * Number(weight);
}

}  // namespace ppo
