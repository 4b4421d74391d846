// What a native task says of a step; the kernels' `Transition`.
#pragma once

namespace native {

struct Outcome {
  bool terminated, success;
};

}  // namespace native
