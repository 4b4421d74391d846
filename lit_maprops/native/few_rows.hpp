// Forward passes of a tanh MLP for few rows of mostly 0: what a policy needs at one step of its environments.
#pragma once
#include <numeric>
#include <vector>

#include "mlp.hpp"

namespace native {

// A row of inputs: its numbers that are not 0, or all of them where hardly any is.
struct Nonzeros {
  std::vector<int> column;
  std::vector<float> value;
  void clear() { column.clear(), value.clear(); }
  void add(int where, float what = 1.0f) { column.push_back(where), value.push_back(what); }
  void take(const float* from, int size) {
    column.resize(size), value.assign(from, from + size);
    std::iota(column.begin(), column.end(), 0);
  }
};

// Networks of one shape; holds what lies between the layers.
class FewRows {
 public:
  explicit FewRows(const std::vector<Layer>& layers) : layers_(layers) {}
  const std::vector<Layer>& layers() const { return layers_; }
  int width() const { return layers_.back().width(); }

  // Output [rows][width] of a network whose weights are held as in `Network`; of the inputs with the numbers `which`, if
  // given.
  const float* held(const float* w, const Nonzeros* inputs, int rows, const int* which = nullptr) {
    for (size_t n = 0; n < layers_.size(); w += layers_[n].held(), ++n) {
      const Layer& l = layers_[n];
      const int width = l.width();
      std::vector<float>& z = output(n, rows);
      const float* bias = w + long(l.in) * width;
      if (n == 0)
        for (int r = 0; r < rows; ++r) sum_of_rows(inputs[which ? which[r] : r], width, w, bias, &z[size_t(r) * width]);
      else
        multiply(rows, width, l.in, outputs_[(n - 1) % 2].data(), layers_[n - 1].width(), 1, w, width, bias, z.data(),
                 width);
      if (n + 1 < layers_.size()) tanh_of(z);
    }
    return outputs_[(layers_.size() - 1) % 2].data();
  }

  // The same from torch's layout, for weights that change too often to be worth rearranging.
  const float* upright(const float* w, const Nonzeros* inputs, int rows) {
    for (size_t n = 0; n < layers_.size(); w += layers_[n].size(), ++n) {
      const Layer& l = layers_[n];
      std::vector<float>& z = output(n, rows);
      const float* bias = l.bias ? w + long(l.out) * l.in : nullptr;
      for (int r = 0; r < rows; ++r) {
        float* to = &z[size_t(r) * l.width()];
        if (n == 0)
          sum_of_columns(inputs[r], l, w, bias, to);
        else
          dot_products(l, w, bias, &outputs_[(n - 1) % 2][size_t(r) * layers_[n - 1].width()], to);
        for (int o = l.out; o < l.width(); ++o) to[o] = 0.0f;
      }
      if (n + 1 < layers_.size()) tanh_of(z);
    }
    return outputs_[(layers_.size() - 1) % 2].data();
  }

 private:
  std::vector<float>& output(size_t layer, int rows) {
    outputs_[layer % 2].resize(size_t(rows) * layers_[layer].width());
    return outputs_[layer % 2];
  }

  static void sum_of_rows(const Nonzeros& x, int width, const float* w, const float* bias, float* z) {
    const int count = int(x.column.size());
    for (int o = 0; o < width; o += LANES) {
      Vec total = load(bias + o);
      for (int e = 0; e < count; ++e) total += x.value[e] * load(w + long(x.column[e]) * width + o);
      store(z + o, total);
    }
  }

  static void sum_of_columns(const Nonzeros& x, const Layer& l, const float* w, const float* bias, float* z) {
    for (int o = 0; o < l.out; ++o) z[o] = bias ? bias[o] : 0.0f;
    for (size_t e = 0; e < x.column.size(); ++e)
      for (int o = 0; o < l.out; ++o) z[o] += x.value[e] * w[long(o) * l.in + x.column[e]];
  }

  static void dot_products(const Layer& l, const float* w, const float* bias, const float* x, float* z) {
    int o = 0;
    for (; o + LANES <= l.out; o += LANES) dots<LANES>(l, w + long(o) * l.in, bias ? bias + o : nullptr, x, z + o);
    for (; o < l.out; ++o) dots<1>(l, w + long(o) * l.in, bias ? bias + o : nullptr, x, z + o);
  }

  template <int N>
  static void dots(const Layer& l, const float* w, const float* bias, const float* x, float* z) {
    Vec acc[N];
    for (int j = 0; j < N; ++j) acc[j] = all(0.0f);
    int k = 0;
    for (; k + LANES <= l.in; k += LANES) {
      const Vec v = load(x + k);
#pragma GCC unroll 8
      for (int j = 0; j < N; ++j) acc[j] += load(w + long(j) * l.in + k) * v;
    }
    for (int j = 0; j < N; ++j) {
      float total = sum(acc[j]) + (bias ? bias[j] : 0.0f);
      for (int rest = k; rest < l.in; ++rest) total += w[long(j) * l.in + rest] * x[rest];
      z[j] = total;
    }
  }

  static void tanh_of(std::vector<float>& z) {
    float* const outputs = z.data();
    const size_t count = z.size();
    for (size_t e = 0; e < count; e += LANES)
      store(outputs + e, 1.0f - 2.0f * sigmoid_of_minus_twice(load(outputs + e)));
  }

  std::vector<Layer> layers_;
  std::vector<float> outputs_[2];
};

}  // namespace native
