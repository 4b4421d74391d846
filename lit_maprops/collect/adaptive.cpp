// Algorithm 1 up to the target update, natively: every seed collects m env steps and runs Algorithm 2, in turn, until D
// has its n. What module.training_step does, except that seeds go through all of it one after the other.
#include <chrono>

#include "../behavior/update/algorithm2.hpp"
#include "rollout.hpp"
#include "workers.hpp"

namespace {

using namespace native;

// What D retains of older batches: B steps of each seed in U rows.
struct Retained {
  int32_t steps, room, width, actions;    // width: numbers of a state
  const float *inputs, *target;           // [seeds][room][width], [seeds][actions][room]
  const int64_t *taken, *row;             // [seeds][steps]
};

struct Adaptive {
  const Rollout* rollout;
  Training training;
  Retained retained;
  int32_t steps, epochs, warm_start, reset_optimizer, measure_every;  // vector steps between updates
  int64_t max_sample_passes;                                          // 0: any number
  int64_t* gradient_steps;   // [updates][seeds]
  uint8_t* active;           // likewise
  float *kl, *ratio_clipped; // [updates / measure_every][seeds]
  double* seconds;           // [seeds][2]: collecting, updating
};

class Learner {
 public:
  explicit Learner(const Adaptive& c) : c_(c), seed_(seed_of(*c.rollout)), algorithm2_(c.training) {}

  void operator()(int seed) {
    const Rollout& r = *c_.rollout;
    const auto begin = now();
    double updating = 0.0;
    start(seed);
    const int updates = r.steps / c_.steps - 1;
    for (int n = 0; n <= updates; ++n) {
      seed_->play(n * c_.steps, (n + 1) * c_.steps);
      if (n == updates) break;
      const auto since = now();
      for (int t = n * c_.steps; t < (n + 1) * c_.steps; ++t)
        for (int e = 0; e < r.envs; ++e) add(t, e);
      update(seed, n);
      updating += std::chrono::duration<double>(now() - since).count();
    }
    algorithm2_.write(seed, !c_.reset_optimizer);
    c_.seconds[2 * seed] = std::chrono::duration<double>(now() - begin).count() - updating;
    c_.seconds[2 * seed + 1] = updating;
  }

 private:
  static std::chrono::steady_clock::time_point now() { return std::chrono::steady_clock::now(); }

  void start(int seed) {
    const Retained& old = c_.retained;
    algorithm2_.read(seed);
    seed_->start(seed, algorithm2_.net().weights.data());
    const int width = c_.rollout->state_dim;
    table_.clear(width, seed_->joint(), old.steps + c_.rollout->steps * c_.rollout->envs, c_.training);
    taken_ = old.steps, restart_ = true;
    for (int n = 0; n < old.steps; ++n) {
      const int64_t row = old.row[int64_t(seed) * old.steps + n];
      std::copy_n(old.inputs + (int64_t(seed) * old.room + row) * width, width, table_.next_inputs());
      for (int k = 0; k < old.actions; ++k)
        table_.next_target()[k] = old.target[(int64_t(seed) * old.actions + k) * old.room + row];
      table_.add()[old.taken[int64_t(seed) * old.steps + n]] += 1.0f;
    }
  }

  void add(int t, int env) {
    const int64_t taken = seed_->facts(t, env, table_.next_inputs(), table_.next_target());
    table_.add()[taken] += 1.0f;
    ++taken_;
  }

  void update(int seed, int n) {
    if (!c_.warm_start || restart_) algorithm2_.zero_last_layer();
    if (c_.reset_optimizer) algorithm2_.forget();
    table_.inputs.finish(), table_.inputs.list_by_input();
    table_.of_share = 1.0f / float(taken_);  // which count steps already: `of_count` is 1
    int64_t epochs = c_.epochs;
    if (c_.max_sample_passes) epochs = std::max<int64_t>(1, std::min(epochs, c_.max_sample_passes / taken_));
    const bool active = algorithm2_.train(table_, int(epochs), [](int) { return Part{0, nullptr, nullptr}; });
    restart_ = !active;
    const int64_t at = int64_t(n) * c_.rollout->seeds + seed;
    c_.gradient_steps[at] = algorithm2_.gradient_steps, c_.active[at] = active;
    if ((n + 1) % c_.measure_every) return;
    const int64_t measured = int64_t((n + 1) / c_.measure_every - 1) * c_.rollout->seeds + seed;
    c_.kl[measured] = algorithm2_.measure(table_);
    c_.ratio_clipped[measured] = algorithm2_.ratio_clipped;
  }

  const Adaptive& c_;
  std::unique_ptr<Seed> seed_;
  Algorithm2 algorithm2_;
  Table table_;
  int64_t taken_ = 0;    // steps in D
  bool restart_ = true;  // the next update starts from Delta = 0
};

}  // namespace

extern "C" int lit_maprops_adaptive(const Adaptive* call) {
  return for_all(call->rollout->seeds, call->rollout->threads, [&] { return Learner(*call); });
}
