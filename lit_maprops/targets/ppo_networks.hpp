// The policies or the critics of one seed, while they are trained.
#pragma once
#include <cstring>
#include <numeric>
#include <optional>

#include "ppo_moments.hpp"

namespace ppo {

constexpr int AT_ONCE = 120;  // rows of a pass without gradients

class Learned {
 public:
  Learned(const Update& u, const Stack& stack, const Memory& memory, const Numbers& numbers)
      : u_(u), stack_(stack), memory_(memory), numbers_(numbers) {
    const std::vector<Layer> layers = layers_of(stack.layers, stack.shapes);
    const auto passes = std::make_shared<Passes>(layers.size());
    const auto of_cells = std::make_shared<CellPasses>();
    for (int n = 0; n < stack.networks; ++n) {
      networks_.emplace_back(layers, passes);
      if (memory.kind != NOTHING)
        networks_[n].cell.emplace(Remembers(memory.kind), memory.units, memory.out, of_cells);
    }
    per_row_ = stack.networks == 1 ? numbers.parts : 1;  // a network that agents share sees each of their observations
    for (int a = 0; a < u.agents; ++a) {
      const bool one = stack.networks == 1, central = one && numbers.parts == 1;
      places_.push_back({one ? 0 : a, one && !central ? a : 0, central ? a : 0});
    }
  }

  // Everything of a seed, and with `following` what comes after each row of D.
  void read(int seed, bool following) {
    seed_ = seed;
    for (int n = 0; n < int(networks_.size()); ++n) {
      Trained& t = networks_[n];
      switch (numbers_.type) {
        case BYTES: list<uint8_t>(t, seed, n, following); break;
        case SIGNED_BYTES: list<int8_t>(t, seed, n, following); break;
        default: list<float>(t, seed, n, following);
      }
      const long at = start(seed, n, t.net);
      keep_inputs(t, stack_.exp_avg + at, stack_.exp_avg_sq + at);
      t.own.read(t.net, stack_, at, steps_taken(stack_.steps_taken, seed, n));
      if (t.cell) t.of_cell.read(t.cell->weights, memory_, start(seed, n, t.cell->weights),
                                 steps_taken(memory_.steps_taken, seed, n));
      t.of_output.assign(size_t(u_.sequences() / u_.minibatches + 1) * u_.length * stride(), 0.0f);
    }
  }

  void write(int seed) {
    for (int n = 0; n < int(networks_.size()); ++n) {
      Trained& t = networks_[n];
      t.own.write(t.net, stack_, start(seed, n, t.net), steps_taken(stack_.steps_taken, seed, n));
      if (t.cell) t.of_cell.write(t.cell->weights, memory_, start(seed, n, t.cell->weights),
                                  steps_taken(memory_.steps_taken, seed, n));
    }
  }

  // All gradient steps of an epoch, in which the sequences of D come in this order, network by network.
  // `loss(agent, rows, output, of_output)` sets the gradient of an agent's outputs, `stride` numbers apart.
  template <class Loss>
  void epoch(const int64_t* order, Loss loss) {
    for (int n = 0; n < int(networks_.size()); ++n) epoch_of(n, order, loss);
  }
  // The same of one network.
  template <class Loss>
  void epoch_of(int n, const int64_t* order, Loss loss) {
    const int parts = u_.minibatches;
    Trained& t = networks_[n];
    for (int part = 0; part < parts; ++part) {
      const int count = u_.sequences() / parts + (part < u_.sequences() % parts);
      const Rows rows = steps_of(order, count), own = inputs_of(rows);
      const float* output = forward(n, t.inputs, own, rows, count, {memory_.before, u_.begins});
      for (int a = 0; a < u_.agents; ++a)
        if (places_[a].network == n) loss(a, rows, output + offset(a), t.of_output.data() + offset(a));
      const float* of_net = t.of_output.data();
      if (t.cell) of_net = t.cell->backward(of_net, t.of_cell.gradient.data());
      t.net.backward(t.inputs, own, of_net, t.own.gradient.data());
      const float scale = clip(t);
      t.own.step(t.net, scale, u_.adam);
      if (t.cell) t.of_cell.step(t.cell->weights, scale, u_.adam);
      order += count;
    }
  }

  // Calls see(agent, rows, output) for all rows of D, some at a time; networks go on from what was remembered in each.
  template <class See>
  void all_rows(See see) {
    for (int n = 0; n < int(networks_.size()); ++n) outputs(n, networks_[n].inputs, {memory_.before}, see);
  }
  // The same, but networks go on from what was remembered before each sequence.
  template <class See>
  void all_sequences(See see) {
    for (int n = 0; n < int(networks_.size()); ++n) sequences_of(n, see);
  }
  // The same of one network.
  template <class See>
  void sequences_of(int n, See see) {
    if (!networks_[n].cell) return outputs(n, networks_[n].inputs, {}, see);
    const int at_once = std::max(1, AT_ONCE / u_.length);
    std::vector<int64_t> sequences(at_once);
    for (int first = 0; first < u_.sequences(); first += at_once) {
      const int count = std::min(at_once, u_.sequences() - first);
      std::iota(sequences.begin(), sequences.end(), first);
      show(n, networks_[n].inputs, steps_of(sequences.data(), count), count, {memory_.before, u_.begins}, see);
    }
  }
  // As `all_rows` for what follows where it is no row of D, and rows are counted from the first of these on.
  template <class See>
  void all_following(See see) {
    for (int n = 0; n < int(networks_.size()); ++n) outputs(n, networks_[n].following, {memory_.after}, see);
  }
  // Which row of D follows row r; at least `rows`: which of the others, counted from there.
  int next_row(int agent, int r) const { return networks_[places_[agent].network].next_row[r]; }

  int stride() const { return per_row_ * width(); }

  bool finite() const {
    for (const Trained& t : networks_) {
      if (!finite_weights(t.net) || (t.cell && !finite_weights(t.cell->weights))) return false;
    }
    return true;
  }

 private:
  struct Trained {
    Trained(const std::vector<Layer>& layers, std::shared_ptr<Passes> passes) : net(layers, passes) {}
    Network net;
    std::optional<Cell> cell;
    Inputs inputs, following;
    std::vector<int> next_row;
    std::vector<int64_t> followed;  // the rows that `following` follows
    Moments own, of_cell;
    Floats of_output;
  };
  struct Recalled {  // of D
    const float* memory = nullptr;
    const uint8_t* begins = nullptr;
  };
  struct Place {  // of an agent's outputs: which network, which of the rows that a row of D makes, which column
    int network, part, column;
  };

  long start(int seed, int network, const Network& net) const {
    return net.size() * (long(seed) * networks_.size() + network);
  }
  float& steps_taken(float* of_all, int seed, int network) const {
    return of_all[long(seed) * stack_.clocks + (stack_.clocks > 1 ? network : 0)];
  }
  int width() const { return networks_[0].cell ? networks_[0].cell->weights.width() : networks_[0].net.width(); }
  long offset(int agent) const { return long(places_[agent].part) * width() + places_[agent].column; }

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
    t.next_row.resize(rows), t.followed.clear();
    for (int r = 0; r < rows; ++r) {
      const int after = r + u_.envs;
      const bool known = r / u_.envs % u_.steps + 1 < u_.steps &&
                         !std::memcmp(next + r * step, here + after * step, sizeof(Number) * width * per_row_) &&
                         (!t.cell || goes_on(*t.cell, network, r, after));
      t.next_row[r] = known ? after : rows + int(t.followed.size());
      if (known) continue;
      t.followed.push_back(r);
      add(t.following, next + r * step);
    }
  }

  const float* remembered(const float* of_all, const Cell& cell, int network, int64_t row) const {
    return of_all + ((int64_t(seed_) * u_.rows() + row) * memory_.parts + network) * cell.carried();
  }
  // Whether a row begins with what another one ended with.
  bool goes_on(const Cell& cell, int network, int64_t row, int64_t after) const {
    return !std::memcmp(remembered(memory_.after, cell, network, row), remembered(memory_.before, cell, network, after),
                        sizeof(float) * cell.carried() * per_row_);
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

  // Rows of D, step by step: the first ones of all these sequences, the second ones, and so on.
  Rows steps_of(const int64_t* sequences, int count) {
    if (u_.length == 1) return {count, sequences};
    steps_.clear();
    for (int t = 0; t < u_.length; ++t)
      for (int s = 0; s < count; ++s) steps_.push_back(u_.first_of(sequences[s]) + int64_t(t) * u_.envs);
    return {count * u_.length, steps_.data()};
  }

  // Which of a network's inputs they are.
  Rows inputs_of(Rows rows) {
    if (per_row_ == 1) return rows;
    if (!rows.index) return {rows.count * per_row_, nullptr, rows.start * per_row_};
    expanded_.resize(size_t(rows.count) * per_row_);
    for (int r = 0; r < rows.count; ++r)
      for (int p = 0; p < per_row_; ++p) expanded_[size_t(r) * per_row_ + p] = rows[r] * per_row_ + p;
    return {rows.count * per_row_, expanded_.data()};
  }

  // Outputs of inputs, which are those of the rows `rows`, where `side` of them are one step of as many sequences.
  const float* forward(int n, const Inputs& inputs, Rows own, Rows rows, int side, Recalled of_d) {
    Trained& t = networks_[n];
    const float* output = t.net.forward(inputs, own);
    if (!t.cell) return output;
    const int carried = t.cell->carried();
    float* to = t.cell->start(rows.count / side, side * per_row_);
    for (int s = 0; s < side; ++s, to += carried * per_row_)
      std::copy_n(remembered(of_d.memory, *t.cell, n, rows[s]), carried * per_row_, to);
    for (int r = 0; of_d.begins && r < rows.count; ++r)
      std::fill_n(&t.cell->forgets()[size_t(r) * per_row_], per_row_, of_d.begins[int64_t(seed_) * u_.rows() + rows[r]]);
    return t.cell->forward(output);
  }

  // What the gradient of a network is multiplied with, so that its norm is at most `max_grad_norm`.
  float clip(const Trained& t) const {
    Vec squares = t.own.squares();
    if (t.cell) squares += t.of_cell.squares();
    const float scale = u_.max_grad_norm / (std::sqrt(sum(squares)) + 1e-6f);
    return scale > 1.0f ? 1.0f : scale;
  }

  template <class See>
  void outputs(int n, const Inputs& inputs, Recalled of_d, See see) {
    const int rows = inputs.rows / per_row_;
    for (int first = 0; first < rows; first += AT_ONCE) {
      const int count = std::min(AT_ONCE, rows - first);
      show(n, inputs, Rows{count, nullptr, first}, count, of_d, see);
    }
  }
  template <class See>
  void show(int n, const Inputs& inputs, Rows rows, int side, Recalled of_d, See see) {
    // What was remembered lies with the rows of D.
    const bool later = networks_[n].cell && of_d.memory == memory_.after;
    const Rows in_d = later ? Rows{rows.count, networks_[n].followed.data() + rows.start} : rows;
    const float* output = forward(n, inputs, inputs_of(rows), in_d, side, of_d);
    for (int a = 0; a < u_.agents; ++a)
      if (places_[a].network == n) see(a, rows, output + offset(a));
  }

  const Update& u_;
  const Stack& stack_;
  const Memory& memory_;
  const Numbers& numbers_;
  int per_row_, seed_ = 0;
  std::vector<Trained> networks_;
  std::vector<Place> places_;
  std::vector<int64_t> expanded_, steps_;
  std::vector<char> used_;
  std::vector<int> kept_;
};

}  // namespace ppo
