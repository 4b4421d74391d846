// Low-discrepancy draws natively: behavior/low_discrepancy_draws.py and behavior/visits.py, the same numbers.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace native {

// Of all seeds; `[...]` are shapes. Rows are env steps of D, `used` of them before the call.
struct Sequences {
  int32_t columns, content, room, used, period, nested, in_sequence;  // content: numbers of a state; 0: it has a number
  const int32_t* points;  // Sobol's, [period][columns]
  const int64_t* order;   // which of a point's coordinates a column takes, [seeds][columns]
  const int32_t* begin;   // likewise; where first visits begin
  int64_t* met;           // distinct states so far, [seeds]
  int64_t *state, *visit; // [seeds][room]
  int32_t* numbers;       // [seeds][room][columns]
  float* contents;        // [seeds][room][content]
};

class StateSequences {
 public:
  explicit StateSequences(const Sequences* s) : s_(s) {}

  // `rows` more than there are will be entered.
  void start(int seed, int rows) {
    seed_ = seed, used_ = s_->used;
    size_t size = 16;
    while (size < 2 * size_t(used_ + rows)) size *= 2;
    slots_.assign(size, -1);
    for (int row = 0; row < used_; ++row) slots_[find(state()[row], contents() + int64_t(row) * s_->content)] = row;
  }

  // The numbers of one environment [columns]: its state's number counts, or what it holds [content]; fresh: [columns]
  // independent ones.
  void draw(int64_t number, const float* holds, const float* fresh, float* drawn) {
    const int row = used_++, columns = s_->columns;
    float* content = contents() + int64_t(row) * s_->content;
    for (int k = 0; k < s_->content; ++k) content[k] = holds[k] + 0.0f;  // there are two zeros
    const int64_t key = s_->content ? hash(content) : number;
    int32_t& slot = slots_[find(key, content)];
    const int newest = slot;
    int32_t* shift = numbers() + int64_t(row) * columns;
    int64_t& visit = this->visit()[row];
    visit = newest < 0 ? 0 : this->visit()[newest] + 1;
    if (newest >= 0)
      std::copy_n(numbers() + int64_t(newest) * columns, columns, shift);
    else
      first(fresh, shift);
    state()[row] = key, slot = row;
    for (int c = 0; c < columns; ++c) {
      int32_t bits = point(visit, c);
      if (s_->nested) bits = flipped(bits, shift[c], c) ^ flipped(0, shift[c], c);
      drawn[c] = float(bits ^ shift[c]) * 0x1p-24f;
    }
  }

 private:
  static constexpr int BITS = 24;

  int64_t* state() { return s_->state + int64_t(seed_) * s_->room; }
  int64_t* visit() { return s_->visit + int64_t(seed_) * s_->room; }
  int32_t* numbers() { return s_->numbers + int64_t(seed_) * s_->room * s_->columns; }
  float* contents() { return s_->contents + int64_t(seed_) * s_->room * s_->content; }

  int32_t point(int64_t number, int column) const {
    return s_->points[number % s_->period * s_->columns + s_->order[int64_t(seed_) * s_->columns + column]];
  }

  // What randomizes the sequence of a state at its first visit.
  void first(const float* fresh, int32_t* shift) {
    const int32_t* begin = s_->begin + int64_t(seed_) * s_->columns;
    const int64_t place = s_->in_sequence ? s_->met[seed_]++ : 0;
    for (int c = 0; c < s_->columns; ++c)
      shift[c] = s_->in_sequence ? point(place, c) ^ begin[c] : int32_t(fresh[c] * 0x1p24f);
  }

  // The slot of a state, or the free one where it belongs.
  size_t find(int64_t key, const float* content) {
    size_t at = size_t(mixed(uint64_t(key))) & (slots_.size() - 1);
    for (;; at = (at + 1) & (slots_.size() - 1)) {
      const int row = slots_[at];
      if (row < 0) return at;
      if (state()[row] == key &&
          std::equal(content, content + s_->content, contents() + int64_t(row) * s_->content))
        return at;
    }
  }

  int64_t hash(const float* content) const {
    uint64_t sum = 0;
    for (int k = 0; k < s_->content; ++k) {
      int32_t bits;
      std::memcpy(&bits, content + k, sizeof bits);
      const uint64_t wide = uint64_t(int64_t(bits));
      const uint64_t product = (wide ^ (wide << 32)) * ((uint64_t(k + 1) * 0x9E3779B97F4A7C15 + 0x2545F4914F6CDD1D) | 1);
      sum += product ^ (product >> 29);
    }
    return int64_t(sum);
  }

  // stacked.sobol.owen
  static int32_t flipped(int32_t bits, int32_t shift, int column) {
    const uint64_t key = (uint64_t(shift) + (uint64_t(column) << BITS)) << (BITS + 1);
    int32_t flips = 0;
    for (int depth = 0; depth < BITS; ++depth) {
      const uint64_t above = (uint64_t(bits) >> (BITS - depth)) | (uint64_t(1) << depth);
      flips |= int32_t(mixed(key + above) & 1) << (BITS - 1 - depth);
    }
    return bits ^ flips;
  }

  // SplitMix64
  static uint64_t mixed(uint64_t number) {
    number = (number + 1) * 0x9E3779B97F4A7C15;
    number = (number ^ (number >> 30)) * 0xBF58476D1CE4E5B9;
    number = (number ^ (number >> 27)) * 0x94D049BB133111EB;
    return number ^ (number >> 31);
  }

  const Sequences* s_;
  int seed_ = 0, used_ = 0;
  std::vector<int32_t> slots_;  // the newest row of a state, -1: free
};

}  // namespace native
