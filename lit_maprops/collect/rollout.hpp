// The collection of D of one seed: what collection.py has TorchRL do.
#pragma once
#include <memory>

#include "acting.hpp"
#include "sequences.hpp"

namespace native {

enum Behavior { ON_POLICY, JOINT, ASKED, GREEDY };  // ASKED: actions come from Python, between `look` and `act`
enum Draws { INDEPENDENT, STRATIFIED, LOW_DISCREPANCY };
enum Phase { LOOK = 1, CHOOSE = 2, ACT = 4 };

// `[...]` are shapes. Results have room for `room` vector steps of each seed, [seeds][room][envs][...]; where more are
// played, they take the places of the first ones again.
struct Rollout {
  int32_t task, seeds, envs, agents, actions, observation_dim, state_dim, start_noise, step_noise, max_steps;
  int32_t fixed_start, numbered, shared, behavior, draws, room;
  int32_t phases, first, steps, threads;  // what to do in which of the steps
  const void* rules;
  void* state[4];        // of the task, [seeds][envs][...]
  int32_t* step_count;   // [seeds][envs]
  const uint8_t* rests;  // likewise, environments that nothing happens in; null: none
  const float* fixed;    // [seeds][start_noise]
  const float* noise;    // [steps][envs][step_noise + start_noise] for each seed, `noise_seed` apart
  const float* uniform;  // [steps][2 if STRATIFIED][envs][A, or 1 for joint actions], `uniform_seed` apart
  int64_t noise_seed, uniform_seed;
  Stack policies, delta, critics;
  Memory policies_memory, critics_memory;  // the critic is not given where it remembers nothing
  int32_t central;                         // it sees the state
  const Sequences* sequences;  // where draws are LOW_DISCREPANCY
  void *observation, *everything;
  int64_t *index, *action;
  float *parameters, *log_prob, *target_log_prob, *behavior_log_prob, *behavior_kl;
  void *next_observation, *next_everything;
  int64_t* next_index;
  float* reward;
  uint8_t *done, *terminated, *truncated, *success;
};

// Plays the environments of one seed after the other. What depends on the task is in rollout.cpp, so that the task's
// rules are compiled once, whoever plays.
class Seed {
 public:
  explicit Seed(const Rollout& c);
  virtual ~Seed() = default;

  void operator()(int seed);

  // `held_delta`: weights of Delta as `Network` holds them, which may change between steps; null: those of the call.
  void start(int seed, const float* held_delta = nullptr);

  // Vector steps of the call from one up to another, in their order.
  void play(int from, int to);

  // What Algorithm 2 needs of a step that was chosen jointly: the state, pi_theta of all joint actions [padded], and the
  // number of the one taken, which is returned.
  int64_t facts(int t, int env, float* state, float* target);
  int joint() const { return joint_; }

 protected:
  virtual void observe(int env, int64_t at, void* observation, void* everything, int64_t* index) = 0;
  virtual void act(int t, int64_t place) = 0;
  virtual void copy_state(int64_t at, float* to) const = 0;
  virtual bool same_state(int64_t one, int64_t other) const = 0;

  // Of the first environment, in results.
  int64_t at(int t) const { return (int64_t(seed_) * c_.room + t % c_.room) * c_.envs; }
  bool rests(int env) const { return c_.rests && c_.rests[row(env)]; }
  int64_t row(int env) const { return int64_t(seed_) * c_.envs + env; }  // in the task's state
  float score(int64_t at);

  const Rollout& c_;
  int seed_ = 0;
  std::vector<Nonzeros> seen_, all_;  // [agents][envs], [envs]

 private:
  void look(int t, int64_t place);
  void choose(int t, int64_t place);
  const float* of_agent(int64_t at, int agent) const { return c_.parameters + (at * c_.agents + agent) * c_.actions; }
  void choose_independently(int64_t at, const float* uniform);
  void combine(int64_t at);
  void choose_jointly(int64_t at, const float* delta, float uniform);
  const float* stratify(const float* uniform, int columns, int64_t place);
  const float* in_sequence(const float* uniform, int columns, int64_t place);
  long delta_size() const;

  void forget(int64_t place);

  Acting policies_;
  std::optional<Acting> critics_;
  FewRows delta_;
  StateSequences sequences_;
  const float* held_delta_ = nullptr;
  int joint_;
  std::vector<int> rows_, states_;  // of the networks' inputs
  std::vector<float> row_, target_, pi_phi_, chance_, drawn_, state_;
};

// A player of the call's task.
std::unique_ptr<Seed> seed_of(const Rollout& call);

}  // namespace native
