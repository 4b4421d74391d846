// Algorithm 2 for one entry: the arithmetic of fused.py, all gradient steps of an update in a row.
#pragma once
#include "adam.hpp"
#include "distinct.hpp"
#include "mlp.hpp"

namespace native {

constexpr float LARGEST = 60.0f;  // as in fused.py
constexpr int HALVINGS = 6;        // as in systematic.py
constexpr float TINY = 1e-30f;     // likewise

// Delta of all entries, and how it is trained. Everything is float32; `[...]` are shapes.
struct Training {
  int32_t layers, from_zero;
  int32_t systematic;  // updates stop where systematic sampling would, see systematic.py
  int32_t masked;      // states are equal only if the same actions are possible in them
  const int32_t* shapes;  // [layers][3]: out, in, has a bias
  float *flat, *exp_avg, *exp_avg_sq, *steps_taken;  // [entries], `flat_stride` apart; steps [entries]
  int64_t flat_stride, moment_stride;
  float clip_epsilon, kl_cutoff;
  AdamSettings adam;
};

// D of one entry, actions of a row side by side and padded with probability 0.
struct Table {
  Inputs inputs;
  int width = 0;              // actions, padded
  Floats target, share;       // [rows][width]
  float of_share = 1.0f;      // what shares are multiplied by: 1 / steps where they count steps
  float of_count = 1.0f;      // what they are multiplied by to count steps
  std::vector<int> state;     // [rows] if they are numbered: by inputs, and where masked by which actions are possible
  DistinctRows states;

  // `most`: rows to come at most, if equal ones are to become one; then their states can be numbered, too.
  void clear(int in, int actions, int most, const Training& training) {
    width = padded(actions);
    state.clear(), numbers_states_ = training.systematic, masked_ = training.masked;
    name_.assign(in + (masked_ ? width : 0), 0.0f);
    if (numbers_states_) states.clear(most, int(name_.size()));
    inputs.clear(in);
    target.clear(), share.clear();
    key_.assign(in + width, 0.0f);
    merges_ = most > 0;
    if (merges_) distinct_.clear(most, in + width);
  }

  // The row's inputs [in], to be written before `add`, and its probabilities of actions [width].
  float* next_inputs() { return key_.data(); }
  float* next_target() { return key_.data() + key_.size() - width; }

  // Rows that are equal to the bit become one, with the sum of their shares. Returns the row's shares [width].
  float* add() {
    const int row = merges_ ? distinct_.number(key_.data()) : inputs.rows;
    if (row == inputs.rows) {
      inputs.add(next_inputs(), int(key_.size()) - width);
      if (numbers_states_) state.push_back(states.number(name_of_state()));
      target.insert(target.end(), next_target(), next_target() + width);
      share.resize(share.size() + width, 0.0f);
    }
    return &share[size_t(row) * width];
  }

 private:
  const float* name_of_state() {
    if (!masked_) return next_inputs();
    const int in = int(key_.size()) - width;
    std::copy_n(next_inputs(), in, name_.data());
    for (int k = 0; k < width; ++k) name_[in + k] = next_target()[k] > 0.0f ? 1.0f : 0.0f;
    return name_.data();
  }

  Floats key_, name_;  // of one row: inputs and target, which make rows equal; what makes states equal
  DistinctRows distinct_;
  bool merges_ = false, numbers_states_ = false, masked_ = false;
};

// Rows of a gradient step: null for all of D, else with what their shares are multiplied by.
struct Part {
  int count;
  const int64_t* rows;
  const float* weight;
};

class Algorithm2 {
 public:
  explicit Algorithm2(const Training& training)
      : t_(training), net_(layers_of(training.layers, training.shapes)), last_(net_.held() - net_.layers().back().held()) {
    first_.resize(net_.held()), second_.resize(net_.held()), gradient_.resize(net_.held());
  }

  const Network& net() const { return net_; }

  void read(int entry) {
    net_.read(t_.flat + entry * t_.flat_stride, net_.weights.data());
    steps_taken_ = t_.steps_taken[entry];
    if (steps_taken_ == 0.0f) return forget();
    net_.read(t_.exp_avg + entry * t_.moment_stride, first_.data());
    net_.read(t_.exp_avg_sq + entry * t_.moment_stride, second_.data());
  }
  void write(int entry, bool moments) const {
    net_.write(net_.weights.data(), t_.flat + entry * t_.flat_stride);
    t_.steps_taken[entry] = steps_taken_;
    if (!moments) return;
    net_.write(first_.data(), t_.exp_avg + entry * t_.moment_stride);
    net_.write(second_.data(), t_.exp_avg_sq + entry * t_.moment_stride);
  }

  // What an update may start with: no moments, and Delta = 0.
  void forget() {
    std::fill(first_.begin(), first_.end(), 0.0f), std::fill(second_.begin(), second_.end(), 0.0f);
    steps_taken_ = 0.0f;
  }
  void zero_last_layer() { std::fill(net_.weights.begin() + last_, net_.weights.end(), 0.0f); }

  // Up to `most` gradient steps on D, the n-th on part(n); true if the KL cutoff stopped none of them.
  template <class Parts>
  bool train(const Table& table, int most, Parts part) {
    // From Delta = 0 and moments of 0 the first step moves the last layer alone: what lies below is as it was.
    const bool rests = t_.from_zero && steps_taken_ == 0.0f;
    if (t_.systematic) want(table);
    for (gradient_steps = 0; gradient_steps < most; ++gradient_steps) {
      const Part chosen = part(gradient_steps);
      const bool whole = chosen.rows == nullptr, first = rests && whole && gradient_steps == 0;
      const Rows rows{whole ? table.inputs.rows : chosen.count, chosen.rows};
      const float* delta = net_.forward(table.inputs, rows, rests && whole && gradient_steps == 1);
      if (!(statistics(table, delta, rows, chosen.weight, true) <= t_.kl_cutoff)) return false;  // also for NaN
      if (t_.systematic && !(excess(table, delta, 1.0f) <= 0.0)) {
        scale_back(table, delta);
        return false;
      }
      net_.backward(table.inputs, rows, of_delta_.data(), gradient_.data(), t_.from_zero && gradient_steps == 0);
      steps_taken_ += 1.0f;
      const long from = first ? last_ : 0;
      adam(net_.held() - from, net_.weights.data() + from, first_.data() + from, second_.data() + from,
           gradient_.data() + from, 1.0f, steps_taken_, t_.adam);
    }
    if (t_.systematic) scale_back(table, net_.forward(table.inputs, Rows{table.inputs.rows}));
    return true;
  }

  // KL(pi_theta || pi_phi) over D; the share of D's steps whose ratio is clipped stays in `ratio_clipped`.
  float measure(const Table& table) {
    const Rows rows{table.inputs.rows};
    return float(statistics(table, net_.forward(table.inputs, rows), rows, nullptr, false));
  }

  int gradient_steps = 0;  // of the newest update
  float ratio_clipped = 0.0f;

 private:
  // KL over the rows, and with `gradient` of_delta_: u - pi_phi sum u, where u is d_D r if not clipped.
  double statistics(const Table& table, const float* delta, Rows rows, const float* row_weight, bool gradient) {
    const int width = table.width;
    const float lowest = 1.0f - t_.clip_epsilon;
    of_delta_.resize(size_t(rows.count) * width), ratio_.resize(width);
    double kl = 0.0;
    float clipped = 0.0f;
    for (int r = 0; r < rows.count; ++r, delta += width) {
      const float *target = &table.target[rows[r] * width], *share = &table.share[rows[r] * width];
      const float weight = row_weight ? row_weight[r] * table.of_share : table.of_share;
      float* ratio = ratio_.data();
      Vec total = all(0.0f), mean = all(0.0f), visits = all(0.0f);
      for (int k = 0; k < width; k += LANES) {
        Vec d = load(delta + k), t = load(target + k);
        d = d > LARGEST ? all(LARGEST) : d;  // NaN goes through
        d = d < -LARGEST ? all(-LARGEST) : d;
        const Vec w = exp(d);
        store(ratio + k, w);
        total += t * w, mean += t * d, visits += load(share + k);
      }
      const float z = sum(total);
      kl += double(std::log(z) - sum(mean)) * double(sum(visits) * weight);
      Vec of_all = all(0.0f), below = all(0.0f);
      float* out = of_delta_.data() + size_t(r) * width;
      const float inverse = 1.0f / z;
      for (int k = 0; k < width; k += LANES) {
        const Vec of_action = load(ratio + k) * inverse, d_D = load(share + k) * weight;
        const Vec u = of_action <= lowest ? all(0.0f) : d_D * of_action;
        store(ratio + k, of_action), store(out + k, u);
        of_all += u;
        below += of_action < lowest ? d_D : all(0.0f);
      }
      clipped += sum(below);
      if (!gradient) continue;
      const float s = sum(of_all);
      for (int k = 0; k < width; k += LANES)
        store(out + k, load(out + k) - load(ratio + k) * load(target + k) * s);
    }
    ratio_clipped = clipped;
    return kl;
  }

  // next_draw of systematic.py in every row.
  void want(const Table& table) {
    const int width = table.width, rows = table.inputs.rows;
    counts_.assign(size_t(table.states.count()) * width, 0.0f);
    for (int r = 0; r < rows; ++r)
      for (int k = 0; k < width; ++k)
        counts_[size_t(table.state[r]) * width + k] += std::round(table.share[size_t(r) * width + k] * table.of_count);
    wanted_.resize(size_t(rows) * width);
    for (int r = 0; r < rows; ++r) {
      const float *target = &table.target[size_t(r) * width], *counts = &counts_[size_t(table.state[r]) * width];
      float *wanted = &wanted_[size_t(r) * width], held = 0.0f, sum = 0.0f;
      for (int k = 0; k < width; ++k) held += counts[k];
      for (int k = 0; k < width; ++k) {
        const float p = target[k], lacks = p * held - counts[k];
        wanted[k] = lacks >= 0.0f ? std::min(1.0f, p / std::max(TINY, 1.0f - lacks))
                                  : std::max(0.0f, (p + lacks) / std::max(TINY, 1.0f + lacks));
        sum += wanted[k];
      }
      for (int k = 0; k < width; ++k) wanted[k] /= sum;
    }
  }

  // excess of objective.py over all rows, of Delta times a scale.
  double excess(const Table& table, const float* delta, float scale) {
    const int width = table.width;
    double mean = 0.0;
    for (int r = 0; r < table.inputs.rows; ++r, delta += width) {
      const float *target = &table.target[size_t(r) * width], *share = &table.share[size_t(r) * width];
      const float* wanted = &wanted_[size_t(r) * width];
      Vec total = all(0.0f), of_behavior = all(0.0f), of_wanted = all(0.0f), visits = all(0.0f);
      for (int k = 0; k < width; k += LANES) {
        Vec d = load(delta + k);
        d = d > LARGEST ? all(LARGEST) : d;
        d = d < -LARGEST ? all(-LARGEST) : d;
        const Vec w = load(target + k) * exp(d * scale);
        total += w, of_behavior += w * d, of_wanted += load(wanted + k) * d, visits += load(share + k);
      }
      mean += double(sum(of_behavior) / sum(total) - sum(of_wanted)) * double(sum(visits) * table.of_share);
    }
    return mean;
  }

  // Delta, as its weights make it, to where its excess is 0, if it is above.
  void scale_back(const Table& table, const float* delta) {
    float low = 0.0f, high = 1.0f;
    double at_high = excess(table, delta, high);
    if (at_high <= 0.0) return;
    double at_low = excess(table, delta, low);
    for (int n = 0; n < HALVINGS; ++n) {
      const float middle = 0.5f * (low + high);
      const double at_middle = excess(table, delta, middle);
      if (at_middle <= 0.0) low = middle, at_low = at_middle;
      else high = middle, at_high = at_middle;
    }
    const float scale = at_low <= 0.0 ? low + (high - low) * float(at_low / (at_low - at_high)) : 0.0f;
    for (size_t e = last_; e < net_.weights.size(); ++e) net_.weights[e] *= scale;
  }

  const Training& t_;
  Network net_;
  long last_;  // where the last layer starts in what is held
  float steps_taken_ = 0.0f;
  Floats first_, second_, gradient_, of_delta_, ratio_, wanted_, counts_;
};

}  // namespace native
