// One tanh MLP, forward and backward: the kernel of lit_maprops.stacked.mlp, for one network of a stack.
//
// Weights are held as [in][out], rows padded to whole vectors: the first layer then is a sum of a few rows where inputs
// are mostly 0, as pictures of grids are. Torch's own layout, [out][in] and the biases, is what `read` and `write` take.
#pragma once
#include <algorithm>
#include <memory>
#include <vector>

#include "gemm.hpp"
#include "inputs.hpp"

namespace native {

struct Layer {
  int out, in;
  bool bias;
  int width() const { return padded(out); }
  long size() const { return long(out) * in + (bias ? out : 0); }           // in torch's layout
  long held() const { return long(width()) * (in + 1); }                    // here: weights, then biases (0 without)
};

// `shapes` [count][3]: out, in, has a bias.
inline std::vector<Layer> layers_of(int count, const int32_t* shapes) {
  std::vector<Layer> layers;
  for (int n = 0; n < count; ++n) layers.push_back({shapes[3 * n], shapes[3 * n + 1], shapes[3 * n + 2] != 0});
  return layers;
}

// What a pass leaves for the next one, by layer: outputs, s, weights as [out][in]. Several networks may share one, each
// using it up before the next: it then stays in the cache.
struct Passes {
  std::vector<Floats> hidden, slope, upright;
  Floats gradients[2], chosen;
  explicit Passes(size_t layers) : hidden(layers), slope(layers), upright(layers) {}
};

class Network {
 public:
  Network(const std::vector<Layer>& layers, std::shared_ptr<Passes> shared = nullptr)
      : layers_(layers), passes_(shared ? shared : std::make_shared<Passes>(layers.size())) {
    for (const Layer& l : layers) held_ += l.held(), size_ += l.size();
    weights.assign(held_, 0.0f);
    all_in_ = layers[0].in;
    for (int i = 0; i < all_in_; ++i) kept_.push_back(i);
  }
  long held() const { return held_; }
  long size() const { return size_; }
  const std::vector<Layer>& layers() const { return layers_; }
  int out() const { return layers_.back().out; }
  int width() const { return layers_.back().width(); }

  // Hold the weights of these inputs only, in ascending order: all others are 0 in every row, and have zero moments. Their
  // gradient is 0 and Adam leaves them as they are, bit for bit.
  void keep(const std::vector<int>& inputs) {
    kept_ = inputs;
    held_ += long(layers_[0].width()) * (int(inputs.size()) - layers_[0].in);
    layers_[0].in = int(inputs.size());
    weights.resize(held_);
  }

  // From, and back to, torch's layout; what is held may be parameters, moments or a gradient.
  void read(const float* flat, float* to) const {
    for (size_t n = 0; n < layers_.size(); ++n) {
      const Layer& l = layers_[n];
      const int w = l.width(), in = n ? l.in : all_in_;
      if (n || l.in == all_in_) {
        transpose(l.out, l.in, flat, in, to, w);
      } else {
        for (int start = 0; start < l.in; start += LANES) {  // a few streams at a time, which the cache keeps apart
          const int end = std::min(start + LANES, l.in);
          for (int o = 0; o < l.out; ++o)
            for (int i = start; i < end; ++i) to[long(i) * w + o] = flat[long(o) * in + kept_[i]];
        }
      }
      for (int i = 0; i <= l.in && l.out < w; ++i)
        for (int o = l.out; o < w; ++o) to[long(i) * w + o] = 0.0f;
      flat += long(l.out) * in;
      for (int o = 0; o < l.out; ++o) to[long(l.in) * w + o] = l.bias ? flat[o] : 0.0f;
      flat += l.bias ? l.out : 0, to += l.held();
    }
  }
  void write(const float* from, float* flat) const {
    for (size_t n = 0; n < layers_.size(); ++n) {
      const Layer& l = layers_[n];
      const int w = l.width(), in = n ? l.in : all_in_;
      if (n || l.in == all_in_) {
        transpose(l.in, l.out, from, w, flat, in);
      } else {
        for (int start = 0; start < l.in; start += LANES) {
          const int end = std::min(start + LANES, l.in);
          for (int o = 0; o < l.out; ++o)
            for (int i = start; i < end; ++i) flat[long(o) * in + kept_[i]] = from[long(i) * w + o];
        }
      }
      flat += long(l.out) * in;
      if (l.bias)
        for (int o = 0; o < l.out; ++o) flat[o] = from[long(l.in) * w + o];
      flat += l.bias ? l.out : 0, from += l.held();
    }
  }

  // Output [rows][width] of the chosen rows; keeps what `backward` needs. The hidden layers are taken from the pass
  // before with `only_last`.
  const float* forward(const Inputs& inputs, Rows rows, bool only_last = false) {
    const float* w = weights.data();
    const size_t last = layers_.size() - 1;
    for (size_t n = 0; n <= last; w += layers_[n].held(), ++n) {
      if (only_last && n < last) continue;
      const Layer& l = layers_[n];
      Floats& z = passes_->hidden[n];
      z.resize(size_t(rows.count) * l.width());
      if (n == 0)
        first_layer(inputs, rows, w, z.data());
      else
        multiply(rows.count, l.width(), l.in, passes_->hidden[n - 1].data(), layers_[n - 1].width(), 1, w, l.width(),
                 w + long(l.in) * l.width(), z.data(), l.width());
      if (n < last) activate(z, passes_->slope[n]);
    }
    return passes_->hidden[last].data();
  }

  // Adds nothing: sets `gradient` [held] from that of the output [rows][width], whose padding is 0.
  void backward(const Inputs& inputs, Rows rows, const float* of_output, float* gradient, bool only_last = false) {
    const size_t last = layers_.size() - 1;
    long offset = held_;
    const float* upper = of_output;
    for (size_t n = last + 1; n-- > 0;) {
      const Layer& l = layers_[n];
      const int w = l.width();
      offset -= l.held();
      float* g = gradient + offset;
      if (only_last && n < last) {
        std::fill(gradient, gradient + offset + l.held(), 0.0f);
        return;
      }
      float* of_bias = g + long(l.in) * w;
      std::fill(of_bias, of_bias + w, 0.0f);
      int o = l.bias ? 0 : w;
      for (; o + 8 * LANES <= w; o += 8 * LANES) totals<8>(rows.count, upper + o, w, of_bias + o);
      for (; o < w; o += LANES) totals<1>(rows.count, upper + o, w, of_bias + o);
      if (n == 0) {
        of_first_layer(inputs, rows, upper, g);
        return;
      }
      const int below = layers_[n - 1].width();
      multiply(l.in, w, rows.count, passes_->hidden[n - 1].data(), 1, below, upper, w, nullptr, g, w);
      if (only_last) continue;
      Floats &up = passes_->upright[n], &s = passes_->slope[n - 1];
      up.resize(size_t(l.out) * below);
      const float* held = weights.data() + offset;
      transpose(l.in, l.out, held, w, up.data(), below);
      for (int o = 0; o < l.out; ++o) std::fill(&up[size_t(o) * below] + l.in, &up[size_t(o) * below] + below, 0.0f);
      Floats& grad = passes_->gradients[n % 2];
      grad.resize(size_t(rows.count) * below);
      multiply(rows.count, below, l.out, upper, w, 1, up.data(), below, nullptr, grad.data(), below);
      for (size_t e = 0; e < grad.size(); e += LANES) {
        const Vec v = load(&s[e]);
        store(&grad[e], load(&grad[e]) * (4.0f * v * (1.0f - v)));
      }
      upper = grad.data();
    }
  }

  Floats weights;  // [held]

 private:
  // The chosen rows of dense inputs, side by side.
  const float* chosen(const Inputs& x, Rows rows) {
    if (!rows.index) return x.dense.data() + rows.start * x.in;
    passes_->chosen.resize(size_t(rows.count) * x.in);
    for (int r = 0; r < rows.count; ++r)
      std::copy_n(x.dense.data() + rows[r] * x.in, x.in, passes_->chosen.data() + size_t(r) * x.in);
    return passes_->chosen.data();
  }

  template <int V>
  static void totals(int rows, const float* upper, int width, float* to) {
    Vec acc[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) acc[v] = all(0.0f);
    for (int r = 0; r < rows; ++r, upper += width)
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) acc[v] += load(upper + LANES * v);
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) store(to + LANES * v, acc[v]);
  }

  void first_layer(const Inputs& x, Rows rows, const float* w, float* z) {
    const Layer& l = layers_[0];
    const int width = l.width();
    const float* bias = w + long(l.in) * width;
    if (!x.sparse) {
      multiply(rows.count, width, l.in, chosen(x, rows), l.in, 1, w, width, bias, z, width);
      return;
    }
    int o = 0;
    for (; o + 8 * LANES <= width; o += 8 * LANES) gather<8>(x, rows, w + o, bias + o, width, z + o);
    for (; o + 2 * LANES <= width; o += 2 * LANES) gather<2>(x, rows, w + o, bias + o, width, z + o);
    if (o < width) gather<1>(x, rows, w + o, bias + o, width, z + o);
  }

  // 8 V columns of the sum of the weights' rows that listed inputs choose.
  template <int V>
  static void gather(const Inputs& x, Rows rows, const float* w, const float* bias, int width, float* z) {
    for (int r = 0; r < rows.count; ++r, z += width) {
      const int64_t row = rows[r];
      Vec acc[V];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) acc[v] = load(bias + LANES * v);
      for (int e = x.first[row]; e < x.first[row + 1]; ++e) {
        const float* from = w + long(x.column[e]) * width;
        const Vec value = all(x.value[e]);
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) acc[v] += value * load(from + LANES * v);
      }
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) store(z + LANES * v, acc[v]);
    }
  }

  // After a forward pass on the same rows.
  void of_first_layer(const Inputs& x, Rows rows, const float* upper, float* g) const {
    const Layer& l = layers_[0];
    const int width = l.width();
    if (!x.sparse) {
      const float* from = rows.index ? passes_->chosen.data() : x.dense.data() + rows.start * x.in;
      multiply(l.in, width, rows.count, from, 1, l.in, upper, width, nullptr, g, width);
      return;
    }
    std::fill(g, g + long(l.in) * width, 0.0f);
    int o = 0;
    for (; o + 8 * LANES <= width; o += 8 * LANES) scatter<8>(x, rows, upper + o, width, g + o);
    for (; o + 2 * LANES <= width; o += 2 * LANES) scatter<2>(x, rows, upper + o, width, g + o);
    if (o < width) scatter<1>(x, rows, upper + o, width, g + o);
  }

  template <int V>
  static void scatter(const Inputs& x, Rows rows, const float* upper, int width, float* g) {
    for (int r = 0; r < rows.count; ++r, upper += width) {
      const int64_t row = rows[r];
      Vec own[V];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) own[v] = load(upper + LANES * v);
      for (int e = x.first[row]; e < x.first[row + 1]; ++e) {
        float* to = g + long(x.column[e]) * width;
        const Vec value = all(x.value[e]);
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) store(to + LANES * v, load(to + LANES * v) + value * own[v]);
      }
    }
  }

  // z becomes its tanh, and `s` what its slope is made of.
  static void activate(Floats& z, Floats& s) {
    s.resize(z.size());
    for (size_t e = 0; e < z.size(); e += LANES) {
      const Vec v = sigmoid_of_minus_twice(load(&z[e]));
      store(&s[e], v);
      store(&z[e], 1.0f - 2.0f * v);
    }
  }

  std::vector<Layer> layers_;
  long held_ = 0, size_ = 0;
  int all_in_;             // inputs of the first layer in torch's layout
  std::vector<int> kept_;  // those that are held
  std::shared_ptr<Passes> passes_;
};

}  // namespace native
