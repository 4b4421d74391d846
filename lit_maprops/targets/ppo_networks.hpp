// The policies or the critics of one seed, while they are trained.
#pragma once
#include <cstring>

#include "mlp.hpp"
#include "ppo_data.hpp"

namespace ppo {

constexpr int AT_ONCE = 120;  // rows of a pass without gradients

class Learned {
 public:
  Learned(const Update& u, const Stack& stack, const Numbers& numbers) : u_(u), stack_(stack), numbers_(numbers) {
    const std::vector<Layer> layers = layers_of(stack.layers, stack.shapes);
    const auto passes = std::make_shared<Passes>(layers.size());
    for (int n = 0; n < stack.networks; ++n) networks_.emplace_back(layers, passes);
    per_row_ = stack.networks == 1 ? numbers.parts : 1;  // a network that agents share sees each of their observations
    for (int a = 0; a < u.agents; ++a) {
      const bool one = stack.networks == 1, central = one && numbers.parts == 1;
      places_.push_back({one ? 0 : a, one && !central ? a : 0, central ? a : 0});
    }
  }

  // Everything of a seed, and with `following` what comes after each row of D.
  void read(int seed, bool following) {
    for (int n = 0; n < int(networks_.size()); ++n) {
      Trained& t = networks_[n];
      switch (numbers_.type) {
        case BYTES: list<uint8_t>(t, seed, n, following); break;
        case SIGNED_BYTES: list<int8_t>(t, seed, n, following); break;
        default: list<float>(t, seed, n, following);
      }
      const long at = start(seed, n);
      keep_inputs(t, stack_.exp_avg + at, stack_.exp_avg_sq + at);
      for (auto* numbers : {&t.first, &t.second, &t.gradient}) numbers->resize(t.net.held());
      t.net.read(stack_.flat + at, t.net.weights.data());
      t.net.read(stack_.exp_avg + at, t.first.data()), t.net.read(stack_.exp_avg_sq + at, t.second.data());
      t.of_output.assign(size_t(u_.rows() / u_.minibatches + 1) * stride(), 0.0f);
      t.steps = steps_taken(seed, n);
    }
  }

  void write(int seed) {
    for (int n = 0; n < int(networks_.size()); ++n) {
      Trained& t = networks_[n];
      steps_taken(seed, n) = t.steps;
      const long at = start(seed, n);
      t.net.write(t.net.weights.data(), stack_.flat + at);
      t.net.write(t.first.data(), stack_.exp_avg + at), t.net.write(t.second.data(), stack_.exp_avg_sq + at);
    }
  }

  // All gradient steps of an epoch, in which the rows of D come in this order, network by network.
  // `loss(agent, rows, count, output, of_output)` sets the gradient of an agent's outputs, `stride` numbers apart.
  template <class Loss>
  void epoch(const int64_t* order, Loss loss) {
    for (int n = 0; n < int(networks_.size()); ++n) epoch_of(n, order, loss);
  }
  // The same of one network.
  template <class Loss>
  void epoch_of(int n, const int64_t* rows, Loss loss) {
    const int parts = u_.minibatches;
    Trained& t = networks_[n];
    for (int part = 0; part < parts; ++part) {
      const int count = u_.rows() / parts + (part < u_.rows() % parts);
      const Rows own{count * per_row_, expanded(rows, count)};
      const float* output = t.net.forward(t.inputs, own);
      for (int a = 0; a < u_.agents; ++a)
        if (places_[a].network == n) loss(a, rows, count, output + offset(a), t.of_output.data() + offset(a));
      t.net.backward(t.inputs, own, t.of_output.data(), t.gradient.data());
      adam(t.net.held(), t.net.weights.data(), t.first.data(), t.second.data(), t.gradient.data(), clip(t.gradient),
           t.steps + float(part + 1), u_.adam);
      rows += count;
    }
    t.steps += float(parts);
  }

  // Calls see(agent, first row, count, output) for all rows of D, some at a time.
  template <class See>
  void all_rows(See see) {
    for (int n = 0; n < int(networks_.size()); ++n) rows_of(n, see);
  }
  // The same of one network.
  template <class See>
  void rows_of(int n, See see) {
    outputs(n, networks_[n].inputs, see);
  }
  // The same for what follows where it is no row of D.
  template <class See>
  void all_following(See see) {
    for (int n = 0; n < int(networks_.size()); ++n) outputs(n, networks_[n].following, see);
  }
  // Which row of D follows row r; at least `rows`: which of the others, counted from there.
  int next_row(int agent, int r) const { return networks_[places_[agent].network].next_row[r]; }

  int stride() const { return per_row_ * networks_[0].net.width(); }

  bool finite() const {
    for (const Trained& t : networks_) {
      Vec total = all(0.0f);
      for (long e = 0; e < t.net.held(); e += LANES) total += 0.0f * load(&t.net.weights[e]);
      if (sum(total) != 0.0f) return false;
    }
    return true;
  }

 private:
  struct Trained {
    Trained(const std::vector<Layer>& layers, std::shared_ptr<Passes> passes) : net(layers, passes) {}
    Network net;
    Inputs inputs, following;
    std::vector<int> next_row;
    Floats first, second, gradient, of_output;
    float steps = 0.0f;
  };
  struct Place {  // of an agent's outputs: which network, which of the rows that a row of D makes, which column
    int network, part, column;
  };

  long start(int seed, int network) const {
    return networks_[0].net.size() * (long(seed) * networks_.size() + network);
  }
  float& steps_taken(int seed, int network) const {
    return stack_.steps_taken[long(seed) * stack_.clocks + (stack_.clocks > 1 ? network : 0)];
  }
  long offset(int agent) const { return long(places_[agent].part) * networks_[0].net.width() + places_[agent].column; }

  template <class Number>
  void list(Trained& t, int seed, int network, bool following) const {
    const int rows = u_.rows(), width = numbers_.width, parts = numbers_.parts;
    const bool tell = stack_.shapes[1] != width;  // the agent's index is an input, too
    const int64_t first = (int64_t(seed) * rows * parts + network) * width, step = int64_t(parts) * width;
    const Number *here = static_cast<const Number*>(numbers_.here) + first,
                 *next = static_cast<const Number*>(numbers_.next) + first;
    auto add = [&](Inputs& to, const Number* row) {
      for (int p = 0; p < per_row_; ++p) to.add(row + int64_t(p) * width, width, tell ? width + p : -1);
    };
    t.inputs.clear(stack_.shapes[1]), t.following.clear(stack_.shapes[1]);
    for (int r = 0; r < rows; ++r) add(t.inputs, here + r * step);
    if (!following) return;
    t.next_row.resize(rows);
    for (int r = 0, others = 0; r < rows; ++r) {
      const int after = r + u_.envs;
      const bool known = r / u_.envs % u_.steps + 1 < u_.steps &&
                         !std::memcmp(next + r * step, here + after * step, sizeof(Number) * width * per_row_);
      t.next_row[r] = known ? after : rows + others++;
      if (!known) add(t.following, next + r * step);
    }
  }

  // Leaves out inputs that nothing depends on: 0 in all rows, and with moments of 0.
  void keep_inputs(Trained& t, const float* first, const float* second) {
    const int in = stack_.shapes[1], out = stack_.shapes[0];
    used_.assign(in, 0), kept_.clear();
    t.inputs.mark(used_), t.following.mark(used_);
    for (int o = 0; o < out; ++o, first += in, second += in)
      for (int i = 0; i < in; ++i) used_[i] |= (first[i] != 0.0f) | (second[i] != 0.0f);
    for (int i = 0; i < in; ++i)
      if (used_[i]) kept_.push_back(i);
    t.net.keep(kept_);
    for (Inputs* inputs : {&t.inputs, &t.following}) inputs->keep(kept_), inputs->finish();
  }

  const int64_t* expanded(const int64_t* rows, int count) {
    if (per_row_ == 1) return rows;
    expanded_.resize(size_t(count) * per_row_);
    for (int r = 0; r < count; ++r)
      for (int p = 0; p < per_row_; ++p) expanded_[size_t(r) * per_row_ + p] = rows[r] * per_row_ + p;
    return expanded_.data();
  }

  // What the gradient of a network is multiplied with, so that its norm is at most `max_grad_norm`.
  float clip(const Floats& gradient) const {
    Vec squares = all(0.0f), more = all(0.0f);
    size_t e = 0;
    for (; e + 2 * LANES <= gradient.size(); e += 2 * LANES) {
      const Vec g = load(&gradient[e]), h = load(&gradient[e + LANES]);
      squares += g * g, more += h * h;
    }
    if (e < gradient.size()) squares += load(&gradient[e]) * load(&gradient[e]);
    const float scale = u_.max_grad_norm / (std::sqrt(sum(squares + more)) + 1e-6f);
    return scale > 1.0f ? 1.0f : scale;
  }

  template <class See>
  void outputs(int network, const Inputs& inputs, See see) {
    Network& net = networks_[network].net;
    const int rows = inputs.rows / per_row_;
    for (int first = 0; first < rows; first += AT_ONCE) {
      const int count = std::min(AT_ONCE, rows - first);
      const float* output = net.forward(inputs, Rows{count * per_row_, nullptr, int64_t(first) * per_row_});
      for (int a = 0; a < u_.agents; ++a)
        if (places_[a].network == network) see(a, first, count, output + offset(a));
    }
  }

  const Update& u_;
  const Stack& stack_;
  const Numbers& numbers_;
  int per_row_;
  std::vector<Trained> networks_;
  std::vector<Place> places_;
  std::vector<int64_t> expanded_;
  std::vector<char> used_;
  std::vector<int> kept_;
};

}  // namespace ppo
