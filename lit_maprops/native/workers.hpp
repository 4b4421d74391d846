// Seeds over threads. Each seed is one thread's from start to end, so results do not depend on how many there are.
#pragma once
#include <algorithm>
#include <atomic>
#include <exception>
#include <new>
#include <thread>
#include <vector>

#ifdef __SSE__
#include <xmmintrin.h>
#endif

namespace native {

// While it lives, its thread takes numbers below 1e-38 for 0: moments that decay would otherwise end there, where
// processors are many times slower.
class NoDenormals {
#ifdef __SSE__
 public:
  NoDenormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }  // results, and operands
  ~NoDenormals() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#endif
};

// Calls work(i) for all i < count; `make` gives every thread a worker of its own. False: memory ran out on the way.
template <class Make>
bool for_all(int count, int threads, Make make) {
  std::atomic<int> next{0};
  std::atomic<bool> fits{true};
  auto run = [&] {
    const NoDenormals here;
    try {
      auto work = make();
      for (int i; (i = next++) < count;) work(i);
    } catch (const std::bad_alloc&) {
      fits = false;
    }
  };
  std::vector<std::thread> others;
  try {
    for (int t = 1; t < std::min(threads, count); ++t) others.emplace_back(run);
  } catch (const std::exception&) {  // no more threads to be had: those there are do it
  }
  run();
  for (std::thread& t : others) t.join();
  return fits;
}

}  // namespace native
