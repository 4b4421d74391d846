// One tanh MLP, forward and backward; see mlp.hpp. A unit of its own: kernels that share it are compiled sooner.
#include "mlp.hpp"

namespace native {

namespace {

// 8 V columns of the sum of the weights' rows that listed inputs choose.
template <int V>
void gather(const Inputs& x, Rows rows, const float* w, const float* bias, int width, float* z) {
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

template <int V>
void scatter(const Inputs& x, Rows rows, const float* upper, int width, float* g) {
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

// The same for the first rows, input by input.
template <int V>
void collect(const Inputs& x, int rows, const float* upper, int width, float* g) {
  for (int c = 0; c < x.in; ++c, g += width) {
    Vec acc[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) acc[v] = all(0.0f);
    for (int e = x.first_of_input[c]; e < x.first_of_input[c + 1] && x.row_of_input[e] < rows; ++e) {
      const float* from = upper + long(x.row_of_input[e]) * width;
      const Vec value = all(x.value_of_input[e]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) acc[v] += value * load(from + LANES * v);
    }
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) store(g + LANES * v, acc[v]);
  }
}

// z becomes its tanh, and `s` what its slope is made of.
void activate(Floats& z, Floats& s) {
  s.resize(z.size());
  float *const outputs = z.data(), *const slopes = s.data();
  const size_t count = z.size();
  for (size_t e = 0; e < count; e += LANES) {
    const Vec v = sigmoid_of_minus_twice(load(outputs + e));
    store(slopes + e, v);
    store(outputs + e, 1.0f - 2.0f * v);
  }
}

// The gradient of a layer's outputs becomes that of what its tanh was taken of.
void for_slope(Floats& gradient, const Floats& s) {
  float* const g = gradient.data();
  const float* const slopes = s.data();
  const size_t count = gradient.size();
  for (size_t e = 0; e < count; e += LANES) {
    const Vec v = load(slopes + e);
    store(g + e, load(g + e) * (4.0f * v * (1.0f - v)));
  }
}

}  // namespace

void Network::read(const float* flat, float* to) const {
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

void Network::write(const float* from, float* flat) const {
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

const float* Network::forward(const Inputs& inputs, Rows rows, bool only_last) {
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

void Network::backward(const Inputs& inputs, Rows rows, const float* of_output, float* gradient, bool only_last) {
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
    if (l.bias)
      sum_of_rows(rows.count, upper, w, of_bias);
    else
      std::fill(of_bias, of_bias + w, 0.0f);
    if (n == 0) {
      of_first_layer(inputs, rows, upper, g);
      return;
    }
    const int below = layers_[n - 1].width();
    multiply_transposed(rows.count, l.in, w, passes_->hidden[n - 1].data(), below, upper, w, g);
    if (only_last) continue;
    Floats &up = passes_->upright[n], &s = passes_->slope[n - 1];
    up.resize(size_t(l.out) * below);
    const float* held = weights.data() + offset;
    transpose(l.in, l.out, held, w, up.data(), below);
    for (int o = 0; o < l.out; ++o) std::fill(&up[size_t(o) * below] + l.in, &up[size_t(o) * below] + below, 0.0f);
    Floats& grad = passes_->gradients[n % 2];
    grad.resize(size_t(rows.count) * below);
    multiply(rows.count, below, l.out, upper, w, 1, up.data(), below, nullptr, grad.data(), below);
    for_slope(grad, s);
    upper = grad.data();
  }
}

// The chosen rows of dense inputs, side by side.
const float* Network::chosen(const Inputs& x, Rows rows) {
  if (!rows.index) return x.dense.data() + rows.start * x.in;
  passes_->chosen.resize(size_t(rows.count) * x.in);
  for (int r = 0; r < rows.count; ++r)
    std::copy_n(x.dense.data() + rows[r] * x.in, x.in, passes_->chosen.data() + size_t(r) * x.in);
  return passes_->chosen.data();
}

void Network::first_layer(const Inputs& x, Rows rows, const float* w, float* z) {
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

// After a forward pass on the same rows.
void Network::of_first_layer(const Inputs& x, Rows rows, const float* upper, float* g) const {
  const Layer& l = layers_[0];
  const int width = l.width();
  if (!x.sparse) {
    const float* from = rows.index ? passes_->chosen.data() : x.dense.data() + rows.start * x.in;
    multiply_transposed(rows.count, l.in, width, from, l.in, upper, width, g);
    return;
  }
  int o = 0;
  if (!rows.index && !rows.start && !x.first_of_input.empty()) {
    for (; o + 8 * LANES <= width; o += 8 * LANES) collect<8>(x, rows.count, upper + o, width, g + o);
    for (; o + 2 * LANES <= width; o += 2 * LANES) collect<2>(x, rows.count, upper + o, width, g + o);
    if (o < width) collect<1>(x, rows.count, upper + o, width, g + o);
    return;
  }
  std::fill(g, g + long(l.in) * width, 0.0f);
  for (; o + 8 * LANES <= width; o += 8 * LANES) scatter<8>(x, rows, upper + o, width, g + o);
  for (; o + 2 * LANES <= width; o += 2 * LANES) scatter<2>(x, rows, upper + o, width, g + o);
  if (o < width) scatter<1>(x, rows, upper + o, width, g + o);
}

}  // namespace native
