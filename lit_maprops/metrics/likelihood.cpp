// Maximum-likelihood fits natively: the arithmetic of fitted_kl in likelihood.py, equal rows of D as one.
#include "adam.hpp"
#include "distinct.hpp"
#include "mlp.hpp"
#include "workers.hpp"

namespace {

using namespace native;

struct Fit {
  int32_t entries, rows, width, actions, layers, steps, threads;
  const int32_t* shapes;                // [layers][3]: out, in, has a bias
  const float *flat, *features, *logits;  // [entries][parameters], [entries][rows][width], [entries][rows][actions]
  const int64_t* action;                // [entries][rows]
  const uint8_t* held_out;              // likewise
  AdamSettings adam;
  float* kl;  // [entries]
};

class Entry {
 public:
  Entry(const Fit& f, const std::vector<Layer>& layers) : f_(f), net_(layers) {
    first_.resize(net_.held()), second_.resize(net_.held()), gradient_.resize(net_.held());
  }

  void operator()(int entry) {
    read(entry);
    net_.read(f_.flat + entry * net_.size(), net_.weights.data());
    std::fill(first_.begin(), first_.end(), 0.0f), std::fill(second_.begin(), second_.end(), 0.0f);
    double best = INFINITY, kl = 0.0;
    const Rows rows{inputs_.rows};
    const long last = net_.held() - net_.layers().back().held();
    for (int step = 0; step < f_.steps; ++step) {
      // The network starts at 0, from where the first step moves its last layer alone.
      const auto [held, divergence] = statistics(net_.forward(inputs_, rows, step == 1));
      if (held < best) best = held, kl = divergence;
      net_.backward(inputs_, Rows{n_fitted_}, of_output_.data(), gradient_.data(), step == 0);
      const long from = step ? 0 : last;
      adam(net_.held() - from, net_.weights.data() + from, first_.data() + from, second_.data() + from,
           gradient_.data() + from, 1.0f, step + 1, f_.adam);
    }
    f_.kl[entry] = n_held_ ? float(std::max(kl, 0.0)) : NAN;
  }

 private:
  void read(int entry) {
    const int actions = f_.actions, length = f_.width + actions;
    width_ = padded(actions);
    inputs_.clear(f_.width), distinct_.clear(f_.rows, length);
    logits_.clear(), fit_.clear(), held_.clear();
    n_held_ = 0;
    key_.resize(length);
    add(entry, false);
    n_fitted_ = inputs_.rows;
    add(entry, true);
    inputs_.finish();
  }

  // The steps of D that are held out, or the others.
  void add(int entry, bool held) {
    const int actions = f_.actions;
    for (int r = 0; r < f_.rows; ++r) {
      const int64_t place = int64_t(entry) * f_.rows + r;
      if ((f_.held_out[place] != 0) != held) continue;
      const float *x = f_.features + place * f_.width, *logits = f_.logits + place * actions;
      std::copy(x, x + f_.width, key_.begin()), std::copy(logits, logits + actions, key_.begin() + f_.width);
      const size_t row = distinct_.number(key_.data());
      if (int(row) == inputs_.rows) {
        inputs_.add(x, f_.width);
        logits_.resize((row + 1) * width_, -INFINITY), fit_.resize((row + 1) * width_), held_.resize((row + 1) * width_);
        std::copy(logits, logits + actions, logits_.begin() + row * width_);
      }
      n_held_ += held;
      (held ? held_ : fit_)[row * width_ + f_.action[place]] += 1.0f;
    }
  }

  // Mean -log pi_D over the rows that are held out, and KL(pi_D || pi_theta) over all; of_output_ for the others' sum.
  std::pair<double, double> statistics(const float* output) {
    const float of_fit = 1.0f / std::max(1, f_.rows - n_held_);
    of_output_.resize(size_t(inputs_.rows) * width_), log_.resize(width_);
    double held = 0.0, divergence = 0.0;
    for (int r = 0; r < inputs_.rows; ++r) {
      const size_t start = size_t(r) * width_;
      const float *logits = &logits_[start], *fit = &fit_[start], *held_out = &held_[start], *delta = output + start;
      float* grad = &of_output_[start];
      Vec top = all(-INFINITY), total = all(0.0f);
      for (int k = 0; k < width_; k += LANES) {
        const Vec z = load(logits + k) + load(delta + k);
        store(&log_[k], z);
        top = z > top ? z : top;
      }
      const float most = *std::max_element(&top[0], &top[0] + LANES);
      for (int k = 0; k < width_; k += LANES) {
        const Vec e = exp(load(&log_[k]) - most);
        store(grad + k, e);
        total += e;
      }
      const float mass = sum(total), normal = most + std::log(mass);
      Vec of_held = all(0.0f), of_kl = all(0.0f), n_fit = all(0.0f), n_held = all(0.0f);
      for (int k = 0; k < width_; k += LANES) {
        const Vec p = load(grad + k) * (1.0f / mass), log_p = load(&log_[k]) - normal, h = load(held_out + k);
        of_held += h != 0.0f ? h * log_p : all(0.0f);
        of_kl += p > 0.0f ? p * (log_p - load(logits + k)) : all(0.0f);
        n_fit += load(fit + k), n_held += h;
        store(grad + k, p);
      }
      const float fitted = sum(n_fit);
      held -= double(sum(of_held)), divergence += double(sum(of_kl)) * (fitted + sum(n_held));
      for (int k = 0; k < width_; k += LANES) store(grad + k, (load(grad + k) * fitted - load(fit + k)) * of_fit);
    }
    return {held / std::max(1, n_held_), divergence / f_.rows};
  }

  const Fit& f_;
  Network net_;
  Inputs inputs_;
  DistinctRows distinct_;
  int width_ = 0, n_held_ = 0;  // n_held_: steps held out
  int n_fitted_ = 0;             // distinct rows of the others, which come first
  std::vector<float> key_, logits_, fit_, held_;  // of distinct rows [.][width]: log pi_theta, steps fitted, held out
  std::vector<float> first_, second_, gradient_, of_output_, log_;
};

}  // namespace

extern "C" int lit_maprops_fitted_kl(const Fit* fit) {
  const std::vector<Layer> layers = layers_of(fit->layers, fit->shapes);
  return for_all(fit->entries, fit->threads, [&] { return Entry(*fit, layers); });
}
