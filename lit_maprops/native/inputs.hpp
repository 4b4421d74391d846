// What networks read: D's rows, as lists of their nonzero numbers where most are 0.
#pragma once
#include "vectors.hpp"

namespace native {

// Inputs of a network: their nonzero numbers row by row, or if those are many the rows themselves.
struct Inputs {
  int rows = 0, in = 0;
  bool sparse = false;
  std::vector<int> first, column;
  std::vector<float> value;
  Floats dense;  // [rows][in]
  // The same numbers input by input, rows in ascending order; nothing until `list_by_input`, and once a row is added.
  std::vector<int> first_of_input, row_of_input;
  std::vector<float> value_of_input;

  void clear(int in_) {
    rows = 0, in = in_;
    first.assign(1, 0), column.clear(), value.clear(), dense.clear(), first_of_input.clear();
  }
  // `more`: the place of one further input, which is 1; negative: none.
  template <class Number>
  void add(const Number* row, int width, int more = -1) {
    for (int k = 0; k < width; ++k) {
      if (sizeof(Number) == 1 && k + 8 <= width) {  // pictures are 0 in most places
        uint64_t eight;
        std::memcpy(&eight, row + k, 8);
        if (!eight) {
          k += 7;
          continue;
        }
      }
      if (row[k] != 0) column.push_back(k), value.push_back(float(row[k]));
    }
    if (more >= 0) column.push_back(more), value.push_back(1.0f);
    first.push_back(int(column.size())), first_of_input.clear();
    ++rows;
  }
  // Mark in `used` [in] which inputs are ever other than 0; before `finish`.
  void mark(std::vector<char>& used) const {
    for (int c : column) used[c] = 1;
  }
  // Count inputs as `Network::keep` does; before `finish`.
  void keep(const std::vector<int>& kept) {
    std::vector<int> place(in);
    for (size_t i = 0; i < kept.size(); ++i) place[kept[i]] = int(i);
    for (int& c : column) c = place[c];
    in = int(kept.size());
  }
  // For passes that take all rows, or the first ones, in their order: sums over rows then stay in registers. After
  // `finish`.
  void list_by_input() {
    if (!sparse) return;
    first_of_input.assign(in + 1, 0), row_of_input.resize(column.size()), value_of_input.resize(column.size());
    for (int c : column) ++first_of_input[c + 1];
    for (int c = 0; c < in; ++c) first_of_input[c + 1] += first_of_input[c];
    next_.assign(first_of_input.begin(), first_of_input.end() - 1);
    for (int r = 0; r < rows; ++r)
      for (int e = first[r]; e < first[r + 1]; ++e) {
        const int place = next_[column[e]]++;
        row_of_input[place] = r, value_of_input[place] = value[e];
      }
  }
  // Decide how the rows are held. A row of n nonzero numbers costs about 3 n as a list and `in` in a product of matrices.
  void finish() {
    sparse = 3 * column.size() <= size_t(rows) * in;
    if (sparse) return;
    dense.assign(size_t(rows) * in, 0.0f);
    for (int r = 0; r < rows; ++r)
      for (int e = first[r]; e < first[r + 1]; ++e) dense[size_t(r) * in + column[e]] = value[e];
  }

 private:
  std::vector<int> next_;
};

// Which rows of the inputs a pass takes: those of `index`, or `count` from `start` on.
struct Rows {
  int count;
  const int64_t* index = nullptr;
  int64_t start = 0;
  int64_t operator[](int r) const { return index ? index[r] : start + r; }
};

}  // namespace native
