// A GRU or LSTM cell and the linear map behind it, forward and back through time: the kernel of
// lit_maprops.stacked.cells, which says what is calculated, for one network of a stack.
#pragma once
#include "mlp.hpp"

namespace native {

enum Remembers : int32_t { NOTHING, GRU, LSTM };

// What a pass leaves for the next one. Several cells may share one, as networks do with `Passes`.
struct CellPasses {
  std::vector<char> forgets;                           // [steps][side]
  Floats before, after;                                // [steps][side][carried]
  Floats opened, inner_n, shown, output;               // [steps][side][...]: gates, V_n h + b_n, tanh of LSTMs' c', output
  Floats of_hidden, of_gates, of_inner;                // gradients, likewise: of h', of what is given, of V h
  Floats summed, carried, carried_c, upright, behind;  // of one step; weights as [out][in]
};

// Sequences of `steps` steps, `side` of them side by side: the rows of a pass come step by step. `units` is a multiple
// of LANES, so that every gate is made of whole vectors.
class Cell {
 public:
  Cell(Remembers kind, int units, int out, std::shared_ptr<CellPasses> shared);
  int gates() const { return (kind_ == GRU ? 3 : 4) * units_; }
  int carried() const { return (kind_ == GRU ? 1 : 2) * units_; }

  // Room for what is remembered before the first step, [side][carried]; `forgets` is then false everywhere.
  float* start(int steps, int side);
  std::vector<char>& forgets() { return passes_->forgets; }

  // Output [steps][side][width] of the map behind the cell, where `given` [steps][side][gates] comes from below; with
  // weights that are held elsewhere, if they are given.
  const float* forward(const float* given, const float* held = nullptr);
  const float* after() const { return passes_->after.data(); }  // what is remembered then, [steps][side][carried]

  // After it: sets `gradient`, held as `weights`, and returns that of what was given. Nothing goes back beyond the first
  // step.
  const float* backward(const float* of_output, float* gradient);

  Network weights;  // V and b, then the map behind; of the network only the layout is used

 private:
  void gru(int row);
  void lstm(int row);
  void back_through_gru(int row, int place);
  void back_through_lstm(int row, int place);
  void through_time(const float* v);

  Remembers kind_;
  int units_, steps_ = 0, side_ = 0;
  const float* given_ = nullptr;
  std::shared_ptr<CellPasses> passes_;
};

}  // namespace native
