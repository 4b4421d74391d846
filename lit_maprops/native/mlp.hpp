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
  void read(const float* flat, float* to) const;
  void write(const float* from, float* flat) const;

  // Output [rows][width] of the chosen rows; keeps what `backward` needs. The hidden layers are taken from the pass
  // before with `only_last`.
  const float* forward(const Inputs& inputs, Rows rows, bool only_last = false);

  // Adds nothing: sets `gradient` [held] from that of the output [rows][width], whose padding is 0.
  void backward(const Inputs& inputs, Rows rows, const float* of_output, float* gradient, bool only_last = false);

  Floats weights;  // [held]

 private:
  const float* chosen(const Inputs& x, Rows rows);
  void first_layer(const Inputs& x, Rows rows, const float* w, float* z);
  void of_first_layer(const Inputs& x, Rows rows, const float* upper, float* g) const;

  std::vector<Layer> layers_;
  long held_ = 0, size_ = 0;
  int all_in_;             // inputs of the first layer in torch's layout
  std::vector<int> kept_;  // those that are held
  std::shared_ptr<Passes> passes_;
};

}  // namespace native
