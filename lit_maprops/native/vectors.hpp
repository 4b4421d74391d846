// Arithmetic on eight numbers at a time, in GCC's and Clang's vector types: no intrinsics, so any processor will do.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

namespace native {

constexpr int LANES = 8;
typedef float Vec __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t Bits __attribute__((vector_size(4 * LANES)));

inline int padded(int count) { return (count + LANES - 1) / LANES * LANES; }
inline Vec all(float x) { return Vec{x, x, x, x, x, x, x, x}; }
inline Vec load(const float* from) {
  Vec v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
inline void store(float* to, Vec v) { std::memcpy(to, &v, sizeof v); }

inline float sum(Vec v) { return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7])); }

// exp(x), within 2 units in the last place; NaN stays NaN, and what would be denormal is 0.
inline Vec exp(Vec x) {
  const Vec low = all(-87.33654f), high = all(88.72283f);
  const Ints too_low = x < low;
  Vec y = x > high ? high : x;  // comparisons with NaN are false: it goes through
  y = too_low ? low : y;
  const Vec magic = all(12582912.0f);  // adding it rounds to a whole number
  Vec n = y * 1.44269504f + magic;
  const Ints exponent = (Ints)n - (Ints)magic;
  n -= magic;
  const Vec r = (y - n * 0.693359375f) - n * -2.12194440e-4f;
  Vec p = all(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  // In two factors: 2^128 is no float, though a little less than 2^128 times a p below 1 is.
  const Ints half = exponent >> 1;
  const Vec one = (Vec)((half + 127) << 23), other = (Vec)((exponent - half + 127) << 23);
  Vec result = p * one * other;
  result = too_low ? all(0.0f) : result;
  return x > high ? all(INFINITY) : result;
}

// sigmoid(-2 x), of which tanh(x) is 1 - 2 s and its derivative 4 s (1 - s); 1 - tanh^2 is inaccurate once tanh is near 1.
// Within 6 units in the last place for |x| < 43; NaN stays NaN.
inline Vec sigmoid_of_minus_twice(Vec x) {
  const Vec limit = all(43.0f), magic = all(12582912.0f + 127.0f);  // adding it leaves a whole number, and 127 more
  Vec y = x > limit ? limit : x;  // comparisons with NaN are false: it goes through
  y = y < -limit ? -limit : y;
  const Vec whole = y * 2.88539008f + magic;
  const Vec r = y - (whole - magic) * 0.34657359f;  // exp(2 y) = 2^n exp(2 r)
  Vec p = all(8.917558938e-2f);
  p = p * r + 2.678138912e-1f;
  p = p * r + 6.666634083e-1f;
  p = p * r + 1.333320379f;
  p = p * r + 2.000000000f;
  p = p * r + 2.000000000f;
  p = p * r + 1.0f;
  return 1.0f / (p * (Vec)((Ints)whole << 23) + 1.0f);
}

// log(x) of positive numbers that are not denormal, within 2 units in the last place; NaN and infinity stay.
inline Vec log(Vec x) {
  const Ints exponent = ((Ints)x - 0x3f3504f3) >> 23;  // so that the rest is in [sqrt(1/2), sqrt(2))
  const Vec n = __builtin_convertvector(exponent, Vec);
  const Vec m = (Vec)((Ints)x - (exponent << 23)) - 1.0f;
  Vec p = all(7.0376836292e-2f);
  p = p * m - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  const Vec square = m * m;
  const Vec low = p * m * square - n * 2.12194440e-4f - 0.5f * square;
  const Vec result = (m + low) + n * 0.693359375f;
  return x < INFINITY ? result : x;
}

inline Vec sqrt(Vec v) {
  Vec r;
  for (int i = 0; i < LANES; ++i) r[i] = __builtin_sqrtf(v[i]);
  return r;
}

#ifdef __clang__
#define LIT_MAPROPS_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define LIT_MAPROPS_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, Ints{__VA_ARGS__})
#endif

// Columns of eight rows as rows, in place: pairs of numbers, then of twos, then of fours change places.
inline void transpose(Vec* v) {
  Vec w[LANES];
#pragma GCC unroll 4
  for (int i = 0; i < LANES; i += 2) {
    w[i] = LIT_MAPROPS_SHUFFLE(v[i], v[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    w[i + 1] = LIT_MAPROPS_SHUFFLE(v[i], v[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
#pragma GCC unroll 4
  for (int i = 0; i < LANES; i += 4)
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      v[i + 2 * j] = LIT_MAPROPS_SHUFFLE(w[i + j], w[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
      v[i + 2 * j + 1] = LIT_MAPROPS_SHUFFLE(w[i + j], w[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    w[i] = LIT_MAPROPS_SHUFFLE(v[i], v[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    w[i + 4] = LIT_MAPROPS_SHUFFLE(v[i], v[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
#pragma GCC unroll 8
  for (int i = 0; i < LANES; ++i) v[i] = w[i];
}

// to[c][r] = from[r][c], the rows of both `from_row` and `to_row` apart.
inline void transpose(int rows, int columns, const float* from, long from_row, float* to, long to_row) {
  for (int r = 0; r < rows; r += LANES)
    for (int c = 0; c < columns; c += LANES) {
      const float* a = from + r * from_row + c;
      float* b = to + c * to_row + r;
      if (r + LANES <= rows && c + LANES <= columns) {
        Vec v[LANES];
#pragma GCC unroll 8
        for (int i = 0; i < LANES; ++i) v[i] = load(a + i * from_row);
        transpose(v);
#pragma GCC unroll 8
        for (int j = 0; j < LANES; ++j) store(b + j * to_row, v[j]);
      } else {
        for (int i = 0; i < std::min(LANES, rows - r); ++i)
          for (int j = 0; j < std::min(LANES, columns - c); ++j) b[j * to_row + i] = a[i * from_row + j];
      }
    }
}

// Numbers that start with a line of the cache, so that no vector lies across two.
template <class Number>
struct Aligned {
  typedef Number value_type;
  Aligned() = default;
  template <class Other>
  Aligned(const Aligned<Other>&) {}
  Number* allocate(size_t n) { return static_cast<Number*>(::operator new(n * sizeof(Number), std::align_val_t(64))); }
  void deallocate(Number* p, size_t) { ::operator delete(p, std::align_val_t(64)); }
  bool operator==(const Aligned&) const { return true; }
  bool operator!=(const Aligned&) const { return false; }
};
typedef std::vector<float, Aligned<float>> Floats;

}  // namespace native
