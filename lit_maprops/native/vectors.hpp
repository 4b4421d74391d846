// Arithmetic on eight numbers at a time, in GCC's and Clang's vector types: no intrinsics, so any processor will do.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

namespace native {

constexpr int LANES = 8;
typedef float Vec __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));

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
inline Vec sigmoid_of_minus_twice(Vec x) { return 1.0f / (1.0f + exp(2.0f * x)); }

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

}  // namespace native
