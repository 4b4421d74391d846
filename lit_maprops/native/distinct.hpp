// Numbers rows by their bits: equal rows have one number.
#pragma once
#include "vectors.hpp"

namespace native {

class DistinctRows {
 public:
  // Forget all; then at most `most` rows of `length` numbers come.
  void clear(int most, int length) {
    length_ = length;
    rows_.clear();
    size_t places = 16;
    while (places < 2 * size_t(most)) places *= 2;
    found_.assign(places, -1);
  }
  int count() const { return length_ ? int(rows_.size() / length_) : 0; }

  // The number of a row, the next free one if there is none like it yet.
  int number(const float* row) {
    const size_t mask = found_.size() - 1;
    for (size_t place = hash(row) & mask;; place = (place + 1) & mask) {
      const int known = found_[place];
      if (known >= 0 && std::memcmp(&rows_[size_t(known) * length_], row, sizeof(float) * length_)) continue;
      if (known >= 0) return known;
      found_[place] = count();
      rows_.insert(rows_.end(), row, row + length_);
      return found_[place];
    }
  }

 private:
  // Polynomials of the bits, eight side by side.
  uint64_t hash(const float* row) const {
    Bits part{};
    int i = 0;
    for (; i + LANES <= length_; i += LANES) part = mixed(part, (Bits)load(row + i));
    if (i < length_) {
      float rest[LANES] = {};
      std::memcpy(rest, row + i, sizeof(float) * (length_ - i));
      part = mixed(part, (Bits)load(rest));
    }
    uint64_t all = 0;
    for (int lane = 0; lane < LANES; ++lane) {
      all = (all ^ part[lane]) * 0x9E3779B97F4A7C15u;
      all ^= all >> 29;
    }
    return all;
  }
  static Bits mixed(Bits part, Bits bits) {
    return (part ^ bits ^ (bits >> 15)) * 0x2C1B3C6Du;  // 1.0 ends in 23 zeros, which a product alone would keep
  }

  int length_ = 0;
  std::vector<float> rows_;  // [count][length]
  std::vector<int> found_;   // by hash: a number, or -1
};

}  // namespace native
