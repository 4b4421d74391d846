// PPO natively: the arithmetic of ppo.py, and with turns of happo.py, seed by seed, all gradient steps of one in a row.
#include "ppo_data.hpp"
#include "ppo_networks.hpp"
#include "ppo_policy.hpp"
#include "workers.hpp"

namespace {

using namespace ppo;

class Seed {
 public:
  explicit Seed(const Update& u)
      : u_(u), policies_(u, u.policies, u.policies_memory, u.observation),
        critics_(u, u.critics, u.critics_memory, u.of_critic), agents_(u.agents), eight_(u.actions) {}

  void operator()(int seed) {
    for (int a = 0; a < u_.agents; ++a) agents_[a].read(u_, seed, a);
    policies_.read(seed, false), critics_.read(seed, true);
    estimate(seed);
    const bool learns = !u_.learning || u_.learning[seed];
    const Outcome out = u_.turns ? in_turns(seed, learns) : together(seed, learns);
    if (learns) policies_.write(seed), critics_.write(seed);
    const double figures[] = {out.losses.policy, out.losses.critic, out.losses.entropy, out.drift.kl,
                              out.drift.clipped, out.drift.entropy, out.epochs};
    for (int n = 0; n < 7; ++n) u_.figures[n * u_.seeds + seed] = float(figures[n]);
  }

 private:
  struct Outcome {
    Losses losses;  // means over gradient steps; of none, NaN
    Drift drift;
    double epochs;
  };

  // Policies go up the surrogate, the critic goes down the error of its values.
  auto ascent(Losses& losses) {
    return [&](int a, Rows rows, const float* output, float* of_output) {
      policy_gradient(u_, agents_[a], eight_, rows, output, of_output, policies_.stride(), losses);
    };
  }
  auto descent(Losses& losses) {
    return [&](int a, Rows rows, const float* output, float* of_output) {
      critic_gradient(agents_[a], rows, output, of_output, losses);
    };
  }

  // All agents and the critic at once, until the mean KL over agents is beyond the stop.
  Outcome together(int seed, bool active) {
    bool measured = false;
    int epochs = 0;
    Losses losses;
    Drift drift;
    while (active && epochs < u_.epochs) {
      policies_.epoch(u_.order_of(epochs, seed), ascent(losses));
      critics_.epoch(u_.order_of(epochs, seed), descent(losses));
      measured = asks(++epochs);
      if (measured) drift = drift_of(seed), active = float(drift.kl) <= u_.kl_stop;
    }
    if (!measured) drift = drift_of(seed);
    return {losses.over(double(epochs) * u_.minibatches), drift, double(epochs)};
  }

  // One agent after another, each until its own KL is beyond the stop; then the critic.
  Outcome in_turns(int seed, bool active) {
    Outcome out{};
    compound_.assign(u_.rows(), 1.0f);
    for (int n = 0; n < u_.agents; ++n) {
      const int agent = int(u_.turns[int64_t(seed) * u_.agents + n]);
      for (int r = 0; r < u_.rows(); ++r) agents_[agent].advantage[r] *= compound_[r];
      Losses losses;
      int epochs = 0;
      for (bool goes = active; goes && epochs < u_.epochs;) {
        policies_.epoch_of(agent, u_.order_of(epochs, seed), ascent(losses));
        goes = !asks(++epochs) || float(moved(seed, agent, nullptr)) <= u_.kl_stop;
      }
      if (n + 1 < u_.agents) moved(seed, agent, compound_.data());
      losses = losses.over(double(epochs) * u_.minibatches);
      out.losses.policy += losses.policy, out.losses.entropy += losses.entropy;
      out.epochs += double(epochs) / u_.agents;
    }
    Losses losses;
    for (int epoch = 0; active && epoch < u_.epochs; ++epoch)
      critics_.epoch(u_.order_of(epoch, seed), descent(losses));
    out.losses.critic = losses.over(active ? double(u_.epochs) * u_.minibatches : 0.0).critic;
    out.drift = drift_of(seed);
    return out;
  }

  // Whether policies are looked at after so many epochs: without a stop once; weights that are NaN or infinite end the
  // passes in any case.
  bool asks(int epochs) const { return u_.kl_stop < INFINITY || epochs == u_.epochs || !policies_.finite(); }

  // Of the squared error of values; with `clip_value` of the larger one of it and that of the clipped value.
  void critic_gradient(const Agent& agent, Rows rows, const float* output, float* of_output, Losses& losses) const {
    const long stride = critics_.stride();
    const int count = rows.count;
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

  // Over D, means over rows and agents, of those that have a step.
  Drift drift_of(int seed) {
    Drift drift;
    const int64_t start = int64_t(seed) * u_.rows() * u_.agents;
    policies_.all_sequences([&](int a, Rows rows, const float* output) {
      add_drift(u_, agents_[a], u_.parameters + (start + a) * u_.actions, eight_, rows, output, policies_.stride(),
                drift);
    });
    const double numbers = double(u_.rows()) * std::max(1, with_steps());
    return {drift.kl / numbers, drift.clipped / numbers, drift.entropy / numbers};
  }

  int with_steps() const {
    int agents = 0;
    for (const Agent& agent : agents_)
      agents += std::any_of(agent.weight.begin(), agent.weight.end(), [](float weight) { return weight != 0.0f; });
    return agents;
  }

  // Mean KL(old || new) of one agent over D; with `compound` its ratios are multiplied into it.
  double moved(int seed, int agent, float* compound) {
    Drift drift;
    const int64_t start = int64_t(seed) * u_.rows() * u_.agents + agent;
    policies_.sequences_of(agent, [&](int a, Rows rows, const float* output) {
      add_drift(u_, agents_[a], u_.parameters + start * u_.actions, eight_, rows, output, policies_.stride(), drift);
      if (compound) multiply_ratios(agents_[a], eight_, rows, output, policies_.stride(), compound);
    });
    return drift.kl / u_.rows();
  }

  // Values, advantages and value targets, the generalized estimate; advantages are then normalized.
  void estimate(int seed) {
    const int rows = u_.rows();
    const long stride = critics_.stride();
    following_.resize(u_.agents);
    for (auto& values : following_) values.resize(rows);
    critics_.all_rows([&](int a, Rows rows, const float* output) {
      for (int r = 0; r < rows.count; ++r) agents_[a].value[rows[r]] = output[r * stride];
    });
    critics_.all_following([&](int a, Rows rows, const float* output) {
      for (int r = 0; r < rows.count; ++r) following_[a][rows[r]] = output[r * stride];
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
    }
    if (u_.turns) share_advantages();
    for (Agent& agent : agents_) normalize(agent);
  }

  // Every agent's is the mean of all; after an agent has left its own is 0.
  void share_advantages() {
    for (int r = 0; r < u_.rows(); ++r) {
      float total = 0.0f;
      for (const Agent& agent : agents_) total += agent.weight[r] == 0.0f ? 0.0f : agent.advantage[r];
      for (Agent& agent : agents_) agent.advantage[r] = total / float(u_.agents);
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
  std::vector<float> compound_;  // product of the ratios of the agents that were at their turn, row by row
};

}  // namespace

extern "C" int lit_maprops_ppo(const ppo::Update* update) {
  return for_all(update->seeds, update->threads, [&] { return Seed(*update); });
}
