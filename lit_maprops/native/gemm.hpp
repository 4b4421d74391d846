// Products of small matrices whose right factor has padded rows, in tiles of 6 rows and 16 columns.
#pragma once
#include "vectors.hpp"

namespace native {

// C[m][n] (+)= sum_k A[m][k] B[k][n] for R rows and 8 V columns; element (m, k) of A is a[m * row + k * col].
template <int R, int V>
inline void tile(int depth, const float* a, long row, long col, const float* b, long ldb, const float* start, float* c,
                 long ldc, bool add) {
  Vec acc[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v)
      acc[r][v] = add ? load(c + r * ldc + LANES * v) : start ? load(start + LANES * v) : all(0.0f);
  for (int k = 0; k < depth; ++k) {
    Vec right[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) right[v] = load(b + k * ldb + LANES * v);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vec left = all(a[r * row + k * col]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) acc[r][v] += left * right[v];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) store(c + r * ldc + LANES * v, acc[r][v]);
}

template <int V>
inline void tiles(int rows, int depth, const float* a, long row, long col, const float* b, long ldb, const float* start,
                  float* c, long ldc, bool add) {
  int r = 0;
  for (; r + 6 <= rows; r += 6) tile<6, V>(depth, a + r * row, row, col, b, ldb, start, c + r * ldc, ldc, add);
  a += r * row, c += r * ldc;
  switch (rows - r) {
    case 5: tile<5, V>(depth, a, row, col, b, ldb, start, c, ldc, add); break;
    case 4: tile<4, V>(depth, a, row, col, b, ldb, start, c, ldc, add); break;
    case 3: tile<3, V>(depth, a, row, col, b, ldb, start, c, ldc, add); break;
    case 2: tile<2, V>(depth, a, row, col, b, ldb, start, c, ldc, add); break;
    case 1: tile<1, V>(depth, a, row, col, b, ldb, start, c, ldc, add); break;
  }
}

// C = A B of one row of A, or as `multiply` says. Many columns at a time: the sums of one tile wait for nobody.
inline void multiply_row(int columns, int depth, const float* a, long col, const float* b, long ldb, const float* start,
                         float* c, bool add) {
  int n = 0;
  const auto from = [&] { return start ? start + n : nullptr; };
  for (; n + 8 * LANES <= columns; n += 8 * LANES) tile<1, 8>(depth, a, 0, col, b + n, ldb, from(), c + n, 0, add);
  for (; n + 4 * LANES <= columns; n += 4 * LANES) tile<1, 4>(depth, a, 0, col, b + n, ldb, from(), c + n, 0, add);
  for (; n < columns; n += LANES) tile<1, 1>(depth, a, 0, col, b + n, ldb, from(), c + n, 0, add);
}

// C = A B, or with `start` [columns] in every row C = start + A B, or with `add` C += A B. `columns` is a multiple of 8.
inline void multiply(int rows, int columns, int depth, const float* a, long row, long col, const float* b, long ldb,
                     const float* start, float* c, long ldc, bool add = false) {
  if (rows == 1) return multiply_row(columns, depth, a, col, b, ldb, start, c, add);
  int n = 0;
  for (; n + 2 * LANES <= columns; n += 2 * LANES)
    tiles<2>(rows, depth, a, row, col, b + n, ldb, start ? start + n : nullptr, c + n, ldc, add);
  if (n < columns) tiles<1>(rows, depth, a, row, col, b + n, ldb, start ? start + n : nullptr, c + n, ldc, add);
}

// C = A^T B, sums over many rows: [a_columns][columns] of A [rows][a_columns] and B, their rows `lda` and `ldb` apart. A part
// of the rows at a time, which the cache holds; the order of the sums is that of `multiply`.
inline void multiply_transposed(int rows, int a_columns, int columns, const float* a, long lda, const float* b, long ldb,
                                float* c) {
  constexpr int PART = 256;
  for (int first = 0; first == 0 || first < rows; first += PART)
    multiply(a_columns, columns, std::min(PART, rows - first), a + first * lda, 1, lda, b + first * ldb, ldb, nullptr, c,
             columns, first > 0);
}

// 8 V columns of the sum of all rows.
template <int V>
inline void totals(int rows, const float* from, long row, float* to) {
  Vec acc[V];
#pragma GCC unroll 8
  for (int v = 0; v < V; ++v) acc[v] = all(0.0f);
  for (int r = 0; r < rows; ++r, from += row)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) acc[v] += load(from + LANES * v);
#pragma GCC unroll 8
  for (int v = 0; v < V; ++v) store(to + LANES * v, acc[v]);
}

// Sum of all rows, which are `columns` long, a multiple of 8.
inline void sum_of_rows(int rows, const float* from, int columns, float* to) {
  int n = 0;
  for (; n + 8 * LANES <= columns; n += 8 * LANES) totals<8>(rows, from + n, columns, to + n);
  for (; n < columns; n += LANES) totals<1>(rows, from + n, columns, to + n);
}

}  // namespace native
