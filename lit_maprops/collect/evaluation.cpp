// Evaluations natively: what metrics/evaluate.py plays, one episode of every environment.
#include "rollout.hpp"
#include "workers.hpp"

namespace {

using namespace native;

// Of every seed and environment; they are added to by every call until all episodes are over.
struct Evaluation {
  const Rollout* rollout;  // with room for one step; environments rest where an episode is over
  uint8_t *over, *success;  // [seeds][envs]
  float* returns;           // [seeds][envs][agents]
  uint8_t* sound;           // [seeds]: no policy has given NaN
};

class Player {
 public:
  explicit Player(const Evaluation& c) : c_(c), r_(*c.rollout), seed_(seed_of(r_)) {}

  void operator()(int seed) {
    const uint8_t* over = c_.over + int64_t(seed) * r_.envs;
    seed_->start(seed);
    for (int t = r_.first; t < r_.first + r_.steps; ++t) {
      if (std::all_of(over, over + r_.envs, [](uint8_t ended) { return ended != 0; })) return;
      seed_->play(t, t + 1);
      for (int e = 0; e < r_.envs; ++e) look(seed, int64_t(seed) * r_.envs + e);
    }
  }

 private:
  void look(int seed, int64_t at) {
    if (c_.over[at]) return;
    for (int k = 0; k < r_.agents * r_.actions; ++k)
      if (std::isnan(r_.parameters[at * r_.agents * r_.actions + k])) c_.sound[seed] = 0;
    for (int i = 0; i < r_.agents; ++i) c_.returns[at * r_.agents + i] += r_.reward[at * r_.agents + i];
    c_.success[at] |= r_.success[at];
    c_.over[at] = r_.done[at];
  }

  const Evaluation& c_;
  const Rollout& r_;
  std::unique_ptr<Seed> seed_;
};

}  // namespace

extern "C" int lit_maprops_evaluation(const Evaluation* call) {
  return for_all(call->rollout->seeds, call->rollout->threads, [&] { return Player(*call); });
}
