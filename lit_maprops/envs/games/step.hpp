// Games natively: the rules of matrix_game.py, whose one state needs no memory, and of staged_game.py.
#pragma once
#include <algorithm>

#include "few_rows.hpp"
#include "outcome.hpp"

namespace games {

struct Rules {
  int32_t agents, actions, partial;
  float miscoordination, best;
  const float* payoff;     // [joint actions][agents]; of Coordination rewards [actions]
  const uint8_t* is_best;  // [joint actions]
};

class OneStepGame {
 public:
  using Number = float;
  OneStepGame(const void* rules, void* const*) : r_(*static_cast<const Rules*>(rules)) {}
  void start(int64_t, const float*) {}
  int64_t index(int64_t) const { return 0; }
  void observe(int64_t, Number* observation, Number* everything, native::Nonzeros* seen, int64_t between,
               native::Nonzeros& all) {
    for (int i = 0; i < r_.agents; ++i) {
      observation[i] = 1.0f;
      seen[i * between].clear(), seen[i * between].add(0);
    }
    everything[0] = 1.0f;
    all.clear(), all.add(0);
  }

 protected:
  const Rules& r_;
};

class MatrixGame : public OneStepGame {
 public:
  using OneStepGame::OneStepGame;
  native::Outcome step(int64_t, const int64_t* action, const float*, float* reward) {
    int64_t joint = 0;
    for (int i = 0; i < r_.agents; ++i) joint = joint * r_.actions + action[i];
    std::copy_n(r_.payoff + joint * r_.agents, r_.agents, reward);
    return {true, r_.is_best[joint] != 0};
  }
};

class Coordination : public OneStepGame {
 public:
  using OneStepGame::OneStepGame;
  native::Outcome step(int64_t, const int64_t* action, const float*, float* reward) {
    float paid = r_.miscoordination;
    if (r_.partial) {
      for (int j = 0; j < r_.actions; ++j) {
        const float share = r_.payoff[j] * (float(std::count(action, action + r_.agents, j)) / float(r_.agents));
        paid = j ? std::max(paid, share) : share;
      }
    } else if (std::count(action, action + r_.agents, action[0]) == r_.agents) {
      paid = r_.payoff[action[0]];
    }
    std::fill_n(reward, r_.agents, paid);
    return {true, paid >= r_.best};
  }
};

struct StagedRules {
  int32_t agents, actions, stages, ends_early;  // ends_early: with the first joint action that is not best
  const float* payoff;                          // [joint actions][agents]
  const uint8_t* is_best;                       // [joint actions]
};

class StagedGame {
 public:
  using Number = float;

  // The state: stage [rows] int64, flawless [rows] bool.
  StagedGame(const void* rules, void* const* state)
      : r_(*static_cast<const StagedRules*>(rules)),
        stage_(static_cast<int64_t*>(state[0])),
        flawless_(static_cast<uint8_t*>(state[1])) {}

  void start(int64_t row, const float*) { stage_[row] = 0, flawless_[row] = 1; }
  int64_t index(int64_t row) const { return 2 * stage_[row] + flawless_[row]; }

  void observe(int64_t row, Number* observation, Number* everything, native::Nonzeros* seen, int64_t between,
               native::Nonzeros& all) {
    const int stage = int(stage_[row]);
    std::fill_n(observation, r_.agents * r_.stages, 0.0f);
    for (int i = 0; i < r_.agents; ++i) {
      observation[i * r_.stages + stage] = 1.0f;
      seen[i * between].clear(), seen[i * between].add(stage);
    }
    std::fill_n(everything, r_.stages, 0.0f);
    everything[stage] = 1.0f, everything[r_.stages] = flawless_[row];
    all.clear(), all.add(stage);
    if (flawless_[row]) all.add(r_.stages);
  }

  native::Outcome step(int64_t row, const int64_t* action, const float*, float* reward) {
    const int64_t stage = stage_[row];
    int64_t joint = 0;
    for (int i = 0; i < r_.agents; ++i) joint = joint * r_.actions + (action[i] + stage * (i + 1)) % r_.actions;
    std::copy_n(r_.payoff + joint * r_.agents, r_.agents, reward);
    const bool best = r_.is_best[joint], last = stage == r_.stages - 1, flawless = flawless_[row] && best;
    flawless_[row] = flawless, stage_[row] = last ? stage : stage + 1;
    return {last || (r_.ends_early && !best), last && flawless};
  }

 private:
  const StagedRules& r_;
  int64_t* stage_;
  uint8_t* flawless_;
};

}  // namespace games
