// Maximum-likelihood fits natively: the arithmetic of fitted_kl in likelihood.py, equal rows of D as one.
#include "adam.hpp"
#include "distinct.hpp"
#include "mlp.hpp"
#include "workers.hpp"

namespace {

using namespace native;

enum Type : int32_t { FLOATS, BYTES, SIGNED_BYTES };

// Numbers of every row, which may have gaps between them: how far apart those of seeds, agents and rows are.
struct Numbers {
  const void* first;
  int64_t seed, agent, row;
};

struct Fit {
  int32_t seeds, agents, rows, width, actions, layers, steps, threads;
  const int32_t* shapes;  // [layers][3]: out, in, has a bias
  const float* flat;      // [seeds][agents][parameters]
  int32_t type;           // of the features
  Numbers features, logits, action, held_out;  // of a row [width], float [actions], int64_t, uint8_t
  AdamSettings adam;
  float* kl;  // [seeds][agents]
};

// `count` numbers of every row, eight rows side by side: [rows / LANES][count][LANES].
class Blocks {
 public:
  void clear(int count) { count_ = count, numbers_.clear(); }
  void add_row(int row) {
    if (row % LANES == 0) numbers_.resize(numbers_.size() + size_t(count_) * LANES, 0.0f);
  }
  float& at(int row, int k = 0) { return numbers_[(size_t(row / LANES) * count_ + k) * LANES + row % LANES]; }
  const float* block(int start) const { return numbers_.data() + size_t(start) * count_; }
  void scale(float by) {
    for (float& number : numbers_) number *= by;
  }

 private:
  int count_ = 0;
  Floats numbers_;
};

class Entry {
 public:
  Entry(const Fit& f, const std::vector<Layer>& layers) : f_(f), net_(layers), width_(padded(f.actions)) {
    first_.resize(net_.held()), second_.resize(net_.held()), gradient_.resize(net_.held());
    delta_.assign(size_t(width_) * LANES, 0.0f), power_.assign(size_t(width_) * LANES, 0.0f);
  }

  void operator()(int entry) {
    switch (f_.type) {
      case BYTES: read<uint8_t>(entry); break;
      case SIGNED_BYTES: read<int8_t>(entry); break;
      default: read<float>(entry);
    }
    net_.read(f_.flat + entry * net_.size(), net_.weights.data());
    std::fill(first_.begin(), first_.end(), 0.0f), std::fill(second_.begin(), second_.end(), 0.0f);
    double best = INFINITY, kl = 0.0;
    const Rows rows{inputs_.rows};
    const long last = net_.held() - net_.layers().back().held();
    for (int step = 0; step < f_.steps; ++step) {
      // The network starts at 0, from where the first step moves its last layer alone.
      const auto [held, divergence] = statistics(net_.forward(inputs_, rows, step == 1));
      if (held < best) best = held, kl = step ? divergence : 0.0;
      if (step + 1 == f_.steps) break;  // nobody looks at what another step would lead to
      net_.backward(inputs_, Rows{n_fitted_}, of_output_.data(), gradient_.data(), step == 0);
      const long from = step ? 0 : last;
      adam(net_.held() - from, net_.weights.data() + from, first_.data() + from, second_.data() + from,
           gradient_.data() + from, 1.0f, step + 1, f_.adam);
    }
    f_.kl[entry] = n_held_ ? float(std::max(kl, 0.0)) : NAN;
  }

 private:
  template <class Number>
  void read(int entry) {
    // A row's key: its features, as many to a float as there is room for, and its logits.
    const int of_features = int((f_.width * sizeof(Number) + sizeof(float) - 1) / sizeof(float));
    key_.assign(of_features + f_.actions, 0.0f);
    inputs_.clear(f_.width), distinct_.clear(f_.rows, int(key_.size()));
    for (Blocks* blocks : {&logits_, &fit_, &held_}) blocks->clear(f_.actions);
    n_fit_.clear(1), n_of_held_.clear(1);
    n_held_ = 0, held_log_p_ = 0.0;
    add<Number>(entry, false);
    n_fitted_ = inputs_.rows;
    add<Number>(entry, true);
    inputs_.finish(), inputs_.list_by_input();
    of_fit_ = 1.0f / std::max(1, f_.rows - n_held_);
    fit_.scale(of_fit_);
    of_output_.resize(size_t(padded(inputs_.rows)) * width_);
  }

  // The steps of D that are held out, or the others.
  template <class Number>
  void add(int entry, bool held) {
    const int seed = entry / f_.agents, agent = entry % f_.agents;
    const auto at = [&](const Numbers& n, int r) { return n.seed * seed + n.agent * agent + n.row * r; };
    for (int r = 0; r < f_.rows; ++r) {
      if ((static_cast<const uint8_t*>(f_.held_out.first)[at(f_.held_out, r)] != 0) != held) continue;
      const Number* x = static_cast<const Number*>(f_.features.first) + at(f_.features, r);
      const float* logits = static_cast<const float*>(f_.logits.first) + at(f_.logits, r);
      const int action = int(static_cast<const int64_t*>(f_.action.first)[at(f_.action, r)]);
      std::memcpy(key_.data(), x, sizeof(Number) * f_.width);
      std::memcpy(key_.data() + key_.size() - f_.actions, logits, sizeof(float) * f_.actions);
      const int row = int(distinct_.number(key_.data()));
      if (row == inputs_.rows) {
        inputs_.add(x, f_.width);
        for (Blocks* blocks : {&logits_, &fit_, &held_, &n_fit_, &n_of_held_}) blocks->add_row(row);
        for (int k = 0; k < f_.actions; ++k) logits_.at(row, k) = logits[k];
      }
      n_held_ += held;
      (held ? held_ : fit_).at(row, action) += 1.0f, (held ? n_of_held_ : n_fit_).at(row) += 1.0f;
      if (held) held_log_p_ += double(logits[action]);
    }
  }

  // Mean -log pi_D over the rows that are held out, and KL(pi_D || pi_theta) over all; of_output_ for the others' sum.
  // log pi_D is log pi_theta + delta - normal, so that of either only what differs from pi_theta is summed up.
  std::pair<double, double> statistics(const float* output) {
    double held = held_log_p_, divergence = 0.0;
    for (int start = 0; start < inputs_.rows; start += LANES) {
      const Vec n_fit = load(n_fit_.block(start)), n_held = load(n_of_held_.block(start));
      const Vec top = shifted(output, start, logits_.block(start));
      Vec total = all(0.0f), mean = all(0.0f), of_held = all(0.0f);
      const float* held_out = held_.block(start);
      float *delta = delta_.data(), *power = power_.data();
      for (int k = 0; k < f_.actions * LANES; k += LANES) {
        const Vec e = exp(load(power + k) - top), d = load(delta + k);
        store(power + k, e);
        total += e, mean += e * d, of_held += load(held_out + k) * d;
      }
      const Vec normal = top + log(total), inverse = 1.0f / total;
      held += double(sum(of_held - n_held * normal));
      divergence += double(sum((mean * inverse - normal) * (n_fit + n_held)));
      if (start < n_fitted_) differentiate(start, fit_.block(start), n_fit * of_fit_ * inverse);
    }
    return {-held / std::max(1, n_held_), divergence / f_.rows};
  }

  // Of eight rows from `start` on: what the network adds, into delta_, and log pi_theta with it, into power_; returns
  // the largest of the latter. Lanes beyond the last row repeat it.
  Vec shifted(const float* output, int start, const float* logits) {
    Vec top = all(-INFINITY);
    for (int first = 0; first < width_; first += LANES) {
      Vec v[LANES];
#pragma GCC unroll 8
      for (int i = 0; i < LANES; ++i)
        v[i] = load(output + size_t(std::min(start + i, inputs_.rows - 1)) * width_ + first);
      transpose(v);
#pragma GCC unroll 8
      for (int i = 0; i < LANES; ++i) {
        const int k = (first + i) * LANES;
        if (first + i >= f_.actions) continue;
        const Vec z = load(logits + k) + v[i];
        store(&delta_[k], v[i]), store(&power_[k], z);
        top = z > top ? z : top;
      }
    }
    return top;
  }

  // pi_D times the steps that are fitted, less these, over all such steps; `scale` makes the former of power_.
  void differentiate(int start, const float* fit, Vec scale) {
    for (int first = 0; first < width_; first += LANES) {
      Vec v[LANES];
#pragma GCC unroll 8
      for (int i = 0; i < LANES; ++i) {
        const int k = (first + i) * LANES;
        v[i] = first + i < f_.actions ? load(&power_[k]) * scale - load(fit + k) : all(0.0f);
      }
      transpose(v);
#pragma GCC unroll 8
      for (int i = 0; i < LANES; ++i) store(&of_output_[size_t(start + i) * width_ + first], v[i]);
    }
  }

  const Fit& f_;
  Network net_;
  int width_;  // of the output
  Inputs inputs_;
  DistinctRows distinct_;
  int n_held_ = 0;           // steps held out
  double held_log_p_ = 0.0;  // log pi_theta of what was chosen there
  int n_fitted_ = 0;         // distinct rows of the others, which come first
  float of_fit_ = 0.0f;      // one of these steps' share of them
  Blocks logits_, fit_, held_;  // log pi_theta; of every action the share fitted, and the steps held out
  Blocks n_fit_, n_of_held_;    // steps
  Floats key_, delta_, power_;
  Floats first_, second_, gradient_, of_output_;
};

}  // namespace

extern "C" int lit_maprops_fitted_kl(const Fit* fit) {
  const std::vector<Layer> layers = layers_of(fit->layers, fit->shapes);
  return for_all(fit->seeds * fit->agents, fit->threads, [&] { return Entry(*fit, layers); });
}
