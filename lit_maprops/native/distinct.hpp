// Numbers rows by their bits: equal rows have one number.
#pragma once
#include <cstdint>
#include <cstring>
#include <vector>

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
    uint64_t hash = 0;
    for (int i = 0; i < length_; ++i) {
      uint32_t bits;
      std::memcpy(&bits, row + i, sizeof bits);
      hash = (hash ^ bits) * 0x9E3779B97F4A7C15u;
      hash ^= hash >> 29;
    }
    const size_t mask = found_.size() - 1;
    for (size_t place = hash & mask;; place = (place + 1) & mask) {
      const int known = found_[place];
      if (known >= 0 && std::memcmp(&rows_[size_t(known) * length_], row, sizeof(float) * length_)) continue;
      if (known >= 0) return known;
      found_[place] = count();
      rows_.insert(rows_.end(), row, row + length_);
      return found_[place];
    }
  }

 private:
  int length_ = 0;
  std::vector<float> rows_;  // [count][length]
  std::vector<int> found_;   // by hash: a number, or -1
};

}  // namespace native
