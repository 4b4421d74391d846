// The collection of D natively: seed by seed, all steps of a call in a row.
#include "rollout.hpp"

#include "../envs/boulder_push/step.hpp"
#include "../envs/foraging/step.hpp"
#include "../envs/games/step.hpp"
#include "../envs/vmas/step.hpp"
#include "categorical.hpp"
#include "workers.hpp"

namespace native {

Seed::Seed(const Rollout& c)
    : c_(c), seen_(size_t(c.agents) * c.envs), all_(c.envs), policies_(c.policies, c.policies_memory, c.envs),
      delta_(layers_of(c.delta.layers, c.delta.shapes)), sequences_(c.sequences) {
  if (c.critics_memory.kind != NOTHING) critics_.emplace(c.critics, c.critics_memory, c.envs);
  joint_ = 1;
  for (int i = 0; i < c.agents && c.behavior == JOINT; ++i) joint_ *= c.actions;
  const int width = padded(std::max(joint_, c.actions));
  for (auto* scratch : {&row_, &target_, &pi_phi_, &chance_}) scratch->assign(width, NONE);
  drawn_.resize(size_t(c.agents) * c.envs), state_.resize(c.state_dim);
}

void Seed::operator()(int seed) {
  start(seed);
  play(c_.first, c_.first + c_.steps);
}

void Seed::start(int seed, const float* held_delta) {
  seed_ = seed, held_delta_ = held_delta;
  policies_.start(seed, c_.phases & LOOK);
  if (critics_) critics_->start(seed, c_.phases & LOOK);
  if (c_.draws == LOW_DISCREPANCY) sequences_.start(seed, c_.steps * c_.envs);
}

void Seed::play(int from, int to) {
  for (int t = from; t < to; ++t) {
    const int64_t place = at(t);
    if (c_.phases & LOOK) look(t, place);
    if (c_.phases & CHOOSE) choose(t, place);
    if (c_.phases & ACT) act(t, place), forget(place);
  }
}

// What is remembered of episodes that are over.
void Seed::forget(int64_t place) {
  if (!critics_ && !policies_.remembers()) return;
  for (int e = 0; e < c_.envs; ++e) {
    if (rests(e) || !c_.done[place + e]) continue;
    policies_.forget(e);
    if (critics_) critics_->forget(e);
  }
}

int64_t Seed::facts(int t, int env, float* state, float* target) {
  const int64_t place = at(t) + env;
  copy_state(place, state);
  combine(place);
  for (int k = 0; k < padded(joint_); k += LANES) store(target + k, exp(load(&target_[k])));
  int64_t taken = 0;
  for (int i = 0; i < c_.agents; ++i) taken = taken * c_.actions + c_.action[place * c_.agents + i];
  return taken;
}

// What the policies see at a step, and their log-probabilities.
void Seed::look(int t, int64_t place) {
  if (t == c_.first)
    for (int e = 0; e < c_.envs; ++e)
      if (!rests(e)) observe(e, place + e, c_.observation, c_.everything, c_.index);
  rows_.clear(), states_.clear();
  for (int e = 0; e < c_.envs; ++e)
    if (!rests(e)) states_.push_back(e);
  for (int i = 0; i < (c_.shared ? c_.agents : 1); ++i)
    for (int e : states_) rows_.push_back(i * c_.envs + e);
  for (int n = 0; critics_ && n < c_.critics.each; ++n)
    (*critics_)(n, c_.central ? all_.data() : &seen_[n * c_.envs], c_.central ? states_ : rows_, place);
  for (int n = 0; n < c_.policies.each; ++n) {
    const float* output = policies_(n, &seen_[n * c_.envs], rows_, place);
    for (int r : rows_) {
      const int env = r % c_.envs, agent = n + r / c_.envs;
      float* to = c_.parameters + ((place + env) * c_.agents + agent) * c_.actions;
      std::copy_n(output, c_.actions, row_.begin());
      const float total = log_sum_exp(row_.data(), padded(c_.actions));
      for (int k = 0; k < c_.actions; ++k) to[k] = row_[k] - total;
      output += policies_.width();
    }
  }
}

void Seed::choose(int t, int64_t place) {
  const int columns = c_.behavior == JOINT ? 1 : c_.agents, count = c_.envs * columns;
  const int layers = c_.draws == STRATIFIED ? 2 : 1;
  const float* uniform = c_.uniform + seed_ * c_.uniform_seed + int64_t(t - c_.first) * count * layers;
  if (c_.draws == STRATIFIED) uniform = stratify(uniform, columns, place);
  if (c_.draws == LOW_DISCREPANCY) uniform = in_sequence(uniform, columns, place);
  const float* delta = nullptr;
  if (c_.behavior == JOINT)
    delta = held_delta_ ? delta_.held(held_delta_, all_.data(), c_.envs)
                        : delta_.upright(c_.delta.flat + seed_ * delta_size(), all_.data(), c_.envs);
  for (int e = 0; e < c_.envs; ++e, uniform += columns) {
    const int64_t at = place + e;
    if (rests(e)) continue;
    if (c_.behavior == JOINT)
      choose_jointly(at, delta + int64_t(e) * delta_.width(), uniform[0]);
    else
      choose_independently(at, uniform);
  }
}

// log pi_theta of what was chosen.
float Seed::score(int64_t at) {
  float total = 0.0f;
  for (int i = 0; i < c_.agents; ++i)
    total += c_.log_prob[at * c_.agents + i] = of_agent(at, i)[c_.action[at * c_.agents + i]];
  return c_.target_log_prob[at] = total;
}

void Seed::choose_independently(int64_t at, const float* uniform) {
  for (int i = 0; i < c_.agents; ++i) {
    const float* own = of_agent(at, i);
    if (c_.behavior == GREEDY) {  // the first of equals
      c_.action[at * c_.agents + i] = std::max_element(own, own + c_.actions) - own;
      continue;
    }
    std::copy_n(own, c_.actions, row_.begin());
    c_.action[at * c_.agents + i] = sample(row_.data(), c_.actions, uniform[i], chance_.data());
  }
  c_.behavior_log_prob[at] = score(at), c_.behavior_kl[at] = 0.0f;
}

// joint.joint_log_probs, into target_.
void Seed::combine(int64_t at) {
  std::copy_n(of_agent(at, 0), c_.actions, target_.begin());
  for (int i = 1, count = c_.actions; i < c_.agents; ++i, count *= c_.actions) {
    const float* own = of_agent(at, i);
    for (int k = count; k-- > 0;) {  // backward: what is still to be read is not yet written
      const float before = target_[k];
      for (int a = c_.actions; a-- > 0;) target_[size_t(k) * c_.actions + a] = before + own[a];
    }
  }
}

// MAPROPS.choose: one categorical over the joint actions.
void Seed::choose_jointly(int64_t at, const float* delta, float uniform) {
  combine(at);
  const int width = padded(joint_);
  for (int k = 0; k < joint_; ++k) pi_phi_[k] = target_[k] + delta[k];
  const float total = log_sum_exp(pi_phi_.data(), width);
  for (int k = 0; k < joint_; ++k) pi_phi_[k] -= total;
  int64_t chosen = sample(pi_phi_.data(), joint_, uniform, chance_.data());
  c_.behavior_log_prob[at] = pi_phi_[chosen];
  c_.behavior_kl[at] = kl_divergence(target_.data(), pi_phi_.data(), width);
  for (int i = c_.agents; i-- > 0; chosen /= c_.actions) c_.action[at * c_.agents + i] = chosen % c_.actions;
  score(at);
}

// behavior.stratified: environments in the same state share the unit interval evenly.
const float* Seed::stratify(const float* uniform, int columns, int64_t place) {
  const int envs = c_.envs;
  const float* offset = uniform + envs * columns;
  for (int e = 0; e < envs; ++e)
    for (int j = 0; j < columns; ++j) {
      int count = 0, rank = 0, first = -1;
      for (int other = 0; other < envs; ++other) {
        if (!same_state(place + e, place + other)) continue;
        const float mine = uniform[e * columns + j], theirs = uniform[other * columns + j];
        rank += theirs < mine || (theirs == mine && other < e);
        ++count;
        if (first < 0) first = other;
      }
      const float drawn = (float(rank) + offset[first * columns + j]) / float(count);
      drawn_[e * columns + j] = std::min(drawn, 1.0f - 0x1p-24f);  // rounding must not reach 1
    }
  return drawn_.data();
}

// behavior.low_discrepancy_draws: the visits of a state draw from one sequence.
const float* Seed::in_sequence(const float* uniform, int columns, int64_t place) {
  for (int e = 0; e < c_.envs; ++e) {
    if (!c_.numbered) copy_state(place + e, state_.data());
    sequences_.draw(c_.numbered ? c_.index[place + e] : 0, state_.data(), uniform + e * columns, &drawn_[e * columns]);
  }
  return drawn_.data();
}

long Seed::delta_size() const {
  long size = 0;
  for (const Layer& l : delta_.layers()) size += l.size();
  return size;
}

namespace {

template <class Task>
class SeedOf : public Seed {
  using Number = typename Task::Number;

 public:
  explicit SeedOf(const Rollout& c) : Seed(c), task_(c.rules, c.state) {}

 protected:
  void observe(int env, int64_t at, void* observation, void* everything, int64_t* index) override {
    task_.observe(row(env), static_cast<Number*>(observation) + at * observed(),
                  static_cast<Number*>(everything) + at * c_.state_dim, &seen_[env], c_.envs, all_[env]);
    if (c_.numbered) index[at] = task_.index(row(env));
    if (c_.shared)
      for (int i = 0; i < c_.agents; ++i) seen_[i * c_.envs + env].add(c_.observation_dim + i);
  }

  void act(int t, int64_t place) override {
    const int noises = c_.step_noise + c_.start_noise;
    const float* noise = c_.noise + seed_ * c_.noise_seed + int64_t(t - c_.first) * c_.envs * noises;
    for (int e = 0; e < c_.envs; ++e, noise += noises) {
      const int64_t at = place + e, own = row(e);
      if (rests(e)) continue;
      if (c_.behavior == ASKED) score(at);
      const Outcome outcome = task_.step(own, c_.action + at * c_.agents, noise, c_.reward + at * c_.agents);
      const bool truncated = ++c_.step_count[own] >= c_.max_steps && !outcome.terminated;
      c_.terminated[at] = outcome.terminated, c_.truncated[at] = truncated, c_.success[at] = outcome.success;
      c_.done[at] = outcome.terminated || truncated;
      observe(e, at, c_.next_observation, c_.next_everything, c_.next_index);
      if (c_.done[at]) {
        task_.start(own, c_.fixed_start ? c_.fixed + int64_t(seed_) * c_.start_noise : noise + c_.step_noise);
        c_.step_count[own] = 0;
      }
      if (t + 1 == c_.first + c_.steps) continue;
      const int64_t then = this->at(t + 1) + e;
      if (c_.done[at])
        observe(e, then, c_.observation, c_.everything, c_.index);
      else
        carry_over(at, then);
    }
  }

  void copy_state(int64_t at, float* to) const override {
    const Number* everything = static_cast<const Number*>(c_.everything) + at * c_.state_dim;
    for (int k = 0; k < c_.state_dim; ++k) to[k] = float(everything[k]);
  }

  bool same_state(int64_t one, int64_t other) const override {
    if (c_.numbered) return c_.index[one] == c_.index[other];
    const Number* state = static_cast<const Number*>(c_.everything);
    return std::equal(state + one * c_.state_dim, state + (one + 1) * c_.state_dim, state + other * c_.state_dim);
  }

 private:
  int64_t observed() const { return int64_t(c_.agents) * c_.observation_dim; }

  // What is seen after a step is what is seen before the next.
  void carry_over(int64_t at, int64_t then) {
    const auto copy = [](const void* from, int64_t at, void* to, int64_t then, int64_t size) {
      std::copy_n(static_cast<const Number*>(from) + at * size, size, static_cast<Number*>(to) + then * size);
    };
    copy(c_.next_observation, at, c_.observation, then, observed());
    copy(c_.next_everything, at, c_.everything, then, c_.state_dim);
    if (c_.numbered) c_.index[then] = c_.next_index[at];
  }

  Task task_;
};

}  // namespace

std::unique_ptr<Seed> seed_of(const Rollout& call) {
  switch (call.task) {
    case 0: return std::make_unique<SeedOf<boulder_push::Task>>(call);
    case 1: return std::make_unique<SeedOf<games::MatrixGame>>(call);
    case 2: return std::make_unique<SeedOf<games::Coordination>>(call);
    case 3: return std::make_unique<SeedOf<foraging::Task>>(call);
    case 4: return std::make_unique<SeedOf<vmas::SimpleSpread>>(call);
    default: return std::make_unique<SeedOf<games::StagedGame>>(call);
  }
}

}  // namespace native

extern "C" int lit_maprops_rollout(const native::Rollout* call) {
  return native::for_all(call->seeds, call->threads, [&] {
    return [seed = native::seed_of(*call)](int number) { (*seed)(number); };
  });
}
