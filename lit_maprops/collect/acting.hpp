// The networks of one seed that see every step of its environments: policies, and a critic that remembers.
#pragma once
#include <optional>

#include "cell.hpp"
#include "few_rows.hpp"

namespace native {

// Equal networks, `each` per seed. Where `held` is given, weights are kept there in the layout of `Network`, and anew
// where they are `stale` or their last layer [.][last] is not what it was.
struct Stack {
  int32_t layers, each, stale;
  const int32_t* shapes;  // [layers][3]: out, in, has a bias
  const float* flat;      // [seeds][each][size]
  float *held, *last;
};

// Cells behind the networks of a stack, and what they remember: `parts` of `Cell::carried` numbers in an environment.
struct Memory {
  int32_t kind, units, parts;
  Stack cells;            // what `Cell::weights` has
  float* now;             // [seeds][envs][parts][carried], from one step to the next
  float *before, *after;  // of D, [seeds][room][envs][parts][carried]
};

// A stack's weights, as they are held.
class HeldStack {
 public:
  explicit HeldStack(const Stack& s) : s_(s), copier_(layers_of(s.layers, s.shapes)) {}

  void keep(int seed) {
    const long last = copier_.layers().back().size();
    for (int64_t n = int64_t(seed) * s_.each; n < int64_t(seed + 1) * s_.each; ++n) {
      const float* flat = s_.flat + n * copier_.size();
      const float* tail = flat + copier_.size() - last;
      if (!s_.stale && std::memcmp(tail, s_.last + n * last, last * sizeof(float)) == 0) continue;
      copier_.read(flat, s_.held + n * copier_.held());
      std::copy_n(tail, last, s_.last + n * last);
    }
  }
  const float* of(int seed, int network) const {
    return s_.held + (int64_t(seed) * s_.each + network) * copier_.held();
  }
  const std::vector<Layer>& layers() const { return copier_.layers(); }

 private:
  const Stack& s_;
  Network copier_;
};

class Acting {
 public:
  Acting(const Stack& stack, const Memory& memory, int envs)
      : m_(memory), envs_(envs), networks_(stack), rows_(networks_.layers()) {
    if (m_.kind == NOTHING) return;
    cells_.emplace(m_.cells);
    cell_.emplace(Remembers(m_.kind), m_.units, cells_->layers().back().out, std::make_shared<CellPasses>());
  }
  bool remembers() const { return bool(cell_); }

  // The seed whose networks these are, from now on; with `keep` their weights may be other ones.
  void start(int seed, bool keep) {
    seed_ = seed;
    if (keep) networks_.keep(seed);
    if (keep && cell_) cells_->keep(seed);
  }

  // Outputs, `width` apart, of the rows [which] of a network's inputs [.][envs]; memories move on to the step whose first
  // environment lies at `place` in D.
  const float* operator()(int network, const Nonzeros* inputs, const std::vector<int>& which, int64_t place) {
    const int rows = int(which.size());
    const float* output = rows_.held(networks_.of(seed_, network), inputs, rows, which.data());
    if (!cell_) return output;
    const int size = cell_->carried();
    float* from = cell_->start(1, rows);
    for (int r : which) {
      const int part = network + r / envs_;
      std::copy_n(now(r % envs_, part), size, from);
      std::copy_n(from, size, m_.before + ((place + r % envs_) * m_.parts + part) * size);
      from += size;
    }
    output = cell_->forward(output, cells_->of(seed_, network));
    const float* to = cell_->after();
    for (int r : which) {
      const int part = network + r / envs_;
      std::copy_n(to, size, now(r % envs_, part));
      std::copy_n(to, size, m_.after + ((place + r % envs_) * m_.parts + part) * size);
      to += size;
    }
    return output;
  }
  int width() const { return cell_ ? cell_->weights.width() : rows_.width(); }

  // An episode is over.
  void forget(int env) {
    if (cell_) std::fill_n(now(env, 0), m_.parts * cell_->carried(), 0.0f);
  }

 private:
  float* now(int env, int part) const {
    return m_.now + ((int64_t(seed_) * envs_ + env) * m_.parts + part) * cell_->carried();
  }

  const Memory& m_;
  int envs_, seed_ = 0;
  HeldStack networks_;
  FewRows rows_;
  std::optional<HeldStack> cells_;
  std::optional<Cell> cell_;
};

}  // namespace native
