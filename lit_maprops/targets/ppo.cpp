// PPO natively: the arithmetic of ppo.py, seed by seed, all gradient steps of one in a row.
#include "ppo_data.hpp"
#include "ppo_networks.hpp"
#include "ppo_policy.hpp"
#include "workers.hpp"

namespace {

using namespace ppo;

class Seed {
 public:
  explicit Seed(const Update& u)
      : u_(u), policies_(u, u.policies, u.observation), critics_(u, u.critics, u.of_critic), agents_(u.agents),
        eight_(u.actions) {}

  void operator()(int seed) {
    for (int a = 0; a < u_.agents; ++a) agents_[a].read(u_, seed, a);
    policies_.read(seed, false), critics_.read(seed, true);
    estimate(seed);
    bool active = !u_.learning || u_.learning[seed], measured = false;
    const bool learns = active;
    int epochs = 0, steps = 0;
    Losses losses;
    Drift drift;
    while (active && epochs < u_.epochs) {
      const int64_t* order = u_.order + (int64_t(epochs) * u_.seeds + seed) * u_.rows();
      epoch(order, losses);
      ++epochs, steps += u_.minibatches;
      // Without a stop the drift is asked for once; weights that are NaN or infinite stop a seed in any case.
      measured = u_.kl_stop < INFINITY || epochs == u_.epochs || !policies_.finite();
      if (measured) drift = drift_of(seed), active = float(drift.kl) <= u_.kl_stop;
    }
    if (!measured) drift = drift_of(seed);
    if (learns) policies_.write(seed), critics_.write(seed);
    const double made = steps;  // 0 of 0 is NaN
    const double figures[] = {losses.policy / made, losses.critic / made, losses.entropy / made, drift.kl,
                              drift.clipped,        drift.entropy,        double(epochs)};
    for (int n = 0; n < 7; ++n) u_.figures[n * u_.seeds + seed] = float(figures[n]);
  }

 private:
  void epoch(const int64_t* order, Losses& losses) {
    policies_.epoch(order, [&](int a, const int64_t* rows, int count, const float* output, float* of_output) {
      policy_gradient(u_, agents_[a], eight_, rows, count, output, of_output, policies_.stride(), losses);
    });
    critics_.epoch(order, [&](int a, const int64_t* rows, int count, const float* output, float* of_output) {
      critic_gradient(agents_[a], rows, count, output, of_output, losses);
    });
  }

  // Of the squared error of values; with `clip_value` of the larger one of it and that of the clipped value.
  void critic_gradient(const Agent& agent, const int64_t* rows, int count, const float* output, float* of_output,
                       Losses& losses) const {
    const long stride = critics_.stride();
    double total = 0.0;
    for (int r = 0; r < count; ++r) {
      const int64_t row = rows[r];
      const float value = output[r * stride], target = agent.target[row], error = value - target;
      float loss = error * error, gradient = 2.0f * error;
      if (u_.clip_value > 0.0f) {
        const float moved = value - agent.value[row];
        const bool outside = moved > u_.clip_value || moved < -u_.clip_value;
        const float kept = moved > u_.clip_value ? u_.clip_value : moved < -u_.clip_value ? -u_.clip_value : moved;
        const float other = agent.value[row] + kept - target;
        const float of_other = outside ? 0.0f : 2.0f * other;
        if (other * other > loss) loss = other * other, gradient = of_other;
        else if (other * other == loss) gradient = 0.5f * (gradient + of_other);
      }
      total += weighted(loss, agent.weight[row]);
      of_output[r * stride] = weighted(u_.critic_coeff * gradient, agent.weight[row]) / float(count);
    }
    losses.critic += double(u_.critic_coeff) * total / count;
  }

  // Over D, means over rows and agents.
  Drift drift_of(int seed) {
    Drift drift;
    const int64_t start = int64_t(seed) * u_.rows() * u_.agents;
    policies_.all_rows([&](int a, int first, int count, const float* output) {
      add_drift(u_, agents_[a], u_.parameters + (start + a) * u_.actions, eight_, first, count, output,
                policies_.stride(), drift);
    });
    const double numbers = double(u_.rows()) * u_.agents;
    return {drift.kl / numbers, drift.clipped / numbers, drift.entropy / numbers};
  }

  // Values, advantages and value targets, the generalized estimate; advantages are then normalized.
  void estimate(int seed) {
    const int rows = u_.rows();
    const long stride = critics_.stride();
    following_.resize(u_.agents);
    for (auto& values : following_) values.resize(rows);
    critics_.all_rows([&](int a, int first, int count, const float* output) {
      for (int r = 0; r < count; ++r) agents_[a].value[first + r] = output[r * stride];
    });
    critics_.all_following([&](int a, int first, int count, const float* output) {
      for (int r = 0; r < count; ++r) following_[a][first + r] = output[r * stride];
    });
    for (int a = 0; a < u_.agents; ++a) {
      Agent& agent = agents_[a];
      for (int r = rows; r-- > 0;) {
        const int next = critics_.next_row(a, r);
        const float next_value = next < rows ? agent.value[next] : following_[a][next - rows];
        const int64_t at = (int64_t(seed) * rows + r) * u_.agents + a;
        const bool last = r / u_.envs % u_.steps + 1 == u_.steps;
        const float ahead = last ? 0.0f : agent.advantage[r + u_.envs];
        const float error = u_.reward[at] + (u_.terminated[at] ? 0.0f : u_.gamma) * next_value - agent.value[r];
        agent.advantage[r] = error + ahead * (u_.done[at] ? 0.0f : u_.carried);
        agent.target[r] = agent.advantage[r] + agent.value[r];
      }
      normalize(agent);
    }
  }

  // To mean 0 and deviation 1 over the agent's own steps; 0 where all are equal up to rounding. See `normalized` of gae.py.
  static void normalize(Agent& agent) {
    const double rows = double(agent.advantage.size());
    double mean = 0.0, variance = 0.0, squares = 0.0;
    for (size_t r = 0; r < agent.advantage.size(); ++r) {
      const double a = agent.advantage[r], v = agent.value[r];
      mean += weighted(a, agent.weight[r]) / rows, squares += weighted(v * v + a * a, agent.weight[r]) / rows;
    }
    for (size_t r = 0; r < agent.advantage.size(); ++r) {
      const double off = agent.advantage[r] - mean;
      variance += weighted(off * off, agent.weight[r]) / rows;
    }
    const double deviation = std::sqrt(variance), size = std::sqrt(squares);
    for (size_t r = 0; r < agent.advantage.size(); ++r) {
      const double off = agent.advantage[r] - mean;
      const double normal = deviation <= 1e-6 * size ? 0.0 : off / (deviation + 1e-8);
      agent.advantage[r] = agent.weight[r] == 0.0f ? 0.0f : float(normal);
    }
  }

  const Update& u_;
  Learned policies_, critics_;
  std::vector<Agent> agents_;
  Policies eight_;
  std::vector<std::vector<float>> following_;
};

}  // namespace

extern "C" int lit_maprops_ppo(const ppo::Update* update) {
  return for_all(update->seeds, update->threads, [&] { return Seed(*update); });
}
