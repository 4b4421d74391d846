// A GRU or LSTM cell through time; see cell.hpp. Gates of a GRU are given as r | z | n, and V h has n | r | z.
#include "cell.hpp"

namespace native {

namespace {

std::vector<Layer> layers_of_cell(int gates, int units, int out) {
  return {{gates, units, true}, {out, units, true}};
}

Vec sigmoid(Vec a) { return sigmoid_of_minus_twice(-0.5f * a); }
Vec tanh(Vec a) { return 1.0f - 2.0f * sigmoid_of_minus_twice(a); }
Vec slope_of_sigmoid(Vec s) { return s * (1.0f - s); }

}  // namespace

Cell::Cell(Remembers kind, int units, int out, std::shared_ptr<CellPasses> shared)
    : weights(layers_of_cell((kind == GRU ? 3 : 4) * units, units, out)), kind_(kind), units_(units),
      passes_(std::move(shared)) {}

float* Cell::start(int steps, int side) {
  steps_ = steps, side_ = side;
  CellPasses& p = *passes_;
  const size_t rows = size_t(steps) * side;
  p.forgets.assign(rows, 0);
  for (auto* numbers : {&p.before, &p.after}) numbers->resize(rows * carried());
  for (auto* numbers : {&p.opened, &p.of_gates}) numbers->resize(rows * gates());
  for (auto* numbers : {&p.inner_n, &p.shown, &p.of_hidden}) numbers->resize(rows * units_);
  p.output.resize(rows * weights.width());
  if (kind_ == GRU) p.of_inner.resize(rows * gates());
  p.summed.resize(size_t(side) * gates());
  return p.before.data();
}

const float* Cell::forward(const float* given, const float* held) {
  CellPasses& p = *passes_;
  const int carry = carried(), wide = gates();
  const float *v = held ? held : weights.weights.data(), *bias = v + long(units_) * wide;
  given_ = given;
  for (int t = 0; t < steps_; ++t) {
    float* before = p.before.data() + long(t) * side_ * carry;
    if (t) std::copy_n(p.after.data() + long(t - 1) * side_ * carry, long(side_) * carry, before);
    for (int b = 0; b < side_; ++b)
      if (p.forgets[size_t(t) * side_ + b]) std::fill_n(before + long(b) * carry, carry, 0.0f);
    multiply(side_, wide, units_, before, carry, 1, v, wide, bias, p.summed.data(), wide);
    for (int b = 0; b < side_; ++b) kind_ == GRU ? gru(t * side_ + b) : lstm(t * side_ + b);
  }
  const float* behind = v + long(wide) * (units_ + 1);
  const int width = weights.width();
  multiply(steps_ * side_, width, units_, p.after.data(), carry, 1, behind, width, behind + long(units_) * width,
           p.output.data(), width);
  return p.output.data();
}

void Cell::gru(int row) {
  CellPasses& p = *passes_;
  const int h = units_;
  const float *x = given_ + long(row) * 3 * h, *s = p.summed.data() + long(row % side_) * 3 * h;
  const float* before = p.before.data() + long(row) * h;
  float *gate = p.opened.data() + long(row) * 3 * h, *inner = p.inner_n.data() + long(row) * h;
  float* after = p.after.data() + long(row) * h;
  for (int u = 0; u < h; u += LANES) {
    const Vec of_n = load(s + u), r = sigmoid(load(x + u) + load(s + h + u));
    const Vec z = sigmoid(load(x + h + u) + load(s + 2 * h + u)), n = tanh(load(x + 2 * h + u) + r * of_n);
    store(inner + u, of_n), store(gate + u, r), store(gate + h + u, z), store(gate + 2 * h + u, n);
    store(after + u, n + z * (load(before + u) - n));
  }
}

void Cell::lstm(int row) {
  CellPasses& p = *passes_;
  const int h = units_;
  const float *x = given_ + long(row) * 4 * h, *s = p.summed.data() + long(row % side_) * 4 * h;
  const float* c = p.before.data() + long(row) * 2 * h + h;
  float *gate = p.opened.data() + long(row) * 4 * h, *shown = p.shown.data() + long(row) * h;
  float* after = p.after.data() + long(row) * 2 * h;
  for (int u = 0; u < h; u += LANES) {
    const Vec i = sigmoid(load(x + u) + load(s + u)), f = sigmoid(load(x + h + u) + load(s + h + u));
    const Vec g = tanh(load(x + 2 * h + u) + load(s + 2 * h + u));
    const Vec o = sigmoid(load(x + 3 * h + u) + load(s + 3 * h + u));
    const Vec now = f * load(c + u) + i * g, seen = tanh(now);
    store(gate + u, i), store(gate + h + u, f), store(gate + 2 * h + u, g), store(gate + 3 * h + u, o);
    store(shown + u, seen), store(after + u, o * seen), store(after + h + u, now);
  }
}

const float* Cell::backward(const float* of_output, float* gradient) {
  CellPasses& p = *passes_;
  const int rows = steps_ * side_, width = weights.width(), wide = gates(), carry = carried();
  const float *v = weights.weights.data(), *behind = v + long(wide) * (units_ + 1);
  float* of_behind = gradient + long(wide) * (units_ + 1);
  multiply_transposed(rows, units_, width, p.after.data(), carry, of_output, width, of_behind);
  sum_of_rows(rows, of_output, width, of_behind + long(units_) * width);
  p.behind.resize(size_t(width) * units_);
  transpose(units_, width, behind, width, p.behind.data(), units_);
  multiply(rows, units_, width, of_output, width, 1, p.behind.data(), units_, nullptr, p.of_hidden.data(), units_);
  through_time(v);
  const Floats& of_inner = kind_ == GRU ? p.of_inner : p.of_gates;
  multiply_transposed(rows, units_, wide, p.before.data(), carry, of_inner.data(), wide, gradient);
  sum_of_rows(rows, of_inner.data(), wide, gradient + long(units_) * wide);
  return p.of_gates.data();
}

// Gradients of what the gates are made of, from that of h' in `of_hidden`.
void Cell::through_time(const float* v) {
  CellPasses& p = *passes_;
  const int wide = gates();
  p.upright.resize(size_t(wide) * units_);
  transpose(units_, wide, v, wide, p.upright.data(), units_);
  p.carried.assign(size_t(side_) * units_, 0.0f), p.carried_c.assign(size_t(side_) * units_, 0.0f);
  for (int t = steps_; t-- > 0;) {
    const int first = t * side_;
    for (int b = 0; b < side_; ++b)
      kind_ == GRU ? back_through_gru(first + b, b) : back_through_lstm(first + b, b);
    if (!t) return;
    const float* of_inner = (kind_ == GRU ? p.of_inner : p.of_gates).data() + long(first) * wide;
    multiply(side_, units_, wide, of_inner, wide, 1, p.upright.data(), units_, nullptr, p.carried.data(), units_,
             kind_ == GRU);
    for (int b = 0; b < side_; ++b)
      if (p.forgets[first + b])
        for (Floats* carried : {&p.carried, &p.carried_c}) std::fill_n(&(*carried)[size_t(b) * units_], units_, 0.0f);
  }
}

// `carried` holds the share of the next step, and then that of h which does not come through V.
void Cell::back_through_gru(int row, int place) {
  CellPasses& p = *passes_;
  const int h = units_;
  const float *gate = &p.opened[size_t(row) * 3 * h], *inner = &p.inner_n[size_t(row) * h];
  const float *before = &p.before[size_t(row) * h], *of_hidden = &p.of_hidden[size_t(row) * h];
  float *given = &p.of_gates[size_t(row) * 3 * h], *of_inner = &p.of_inner[size_t(row) * 3 * h];
  float* carried = &p.carried[size_t(place) * h];
  for (int u = 0; u < h; u += LANES) {
    const Vec r = load(gate + u), z = load(gate + h + u), n = load(gate + 2 * h + u);
    const Vec own = load(carried + u) + load(of_hidden + u);
    const Vec of_n = own * ((1.0f - z) * (1.0f - n * n));
    const Vec of_r = of_n * load(inner + u) * slope_of_sigmoid(r);
    const Vec of_z = own * (load(before + u) - n) * slope_of_sigmoid(z);
    store(given + u, of_r), store(given + h + u, of_z), store(given + 2 * h + u, of_n);
    store(of_inner + u, of_n * r), store(of_inner + h + u, of_r), store(of_inner + 2 * h + u, of_z);
    store(carried + u, own * z);
  }
}

void Cell::back_through_lstm(int row, int place) {
  CellPasses& p = *passes_;
  const int h = units_;
  const float *gate = &p.opened[size_t(row) * 4 * h], *shown = &p.shown[size_t(row) * h];
  const float *c = &p.before[size_t(row) * 2 * h + h], *of_hidden = &p.of_hidden[size_t(row) * h];
  float* given = &p.of_gates[size_t(row) * 4 * h];
  float *carried = &p.carried[size_t(place) * h], *carried_c = &p.carried_c[size_t(place) * h];
  for (int u = 0; u < h; u += LANES) {
    const Vec i = load(gate + u), f = load(gate + h + u), g = load(gate + 2 * h + u), o = load(gate + 3 * h + u);
    const Vec seen = load(shown + u), own = load(carried + u) + load(of_hidden + u);
    const Vec of_c = load(carried_c + u) + own * (o * (1.0f - seen * seen));
    store(given + u, of_c * g * slope_of_sigmoid(i)), store(given + h + u, of_c * load(c + u) * slope_of_sigmoid(f));
    store(given + 2 * h + u, of_c * i * (1.0f - g * g)), store(given + 3 * h + u, own * seen * slope_of_sigmoid(o));
    store(carried_c + u, of_c * f);
  }
}

}  // namespace native
