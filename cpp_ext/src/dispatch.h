// Runs one loop body with the widest vectors an instruction set has.
//
// A body is a struct with a template `run<kWidth>`, made of functions that are always inlined and
// vectors of kWidth doubles (see lanes.h). It is compiled once per instruction set, inside
// functions that carry the set as an attribute, so that the rest of the library stays runnable on
// any machine. No fused multiply-add and one fixed order of every sum: all sets give the same bits.
#pragma once

#include <algorithm>

#include "edgetl/preprocess.h"  // Isa, best_isa
#include "kernels.h"            // EDGETL_X86

#if defined(__GNUC__) || defined(__clang__)
#define EDGETL_INLINE inline __attribute__((always_inline))
#else
#define EDGETL_INLINE inline
#endif

namespace edgetl {

#ifdef EDGETL_X86
template <typename Body, typename... Args>
__attribute__((target("avx2"))) bool run_avx2(Args... args) {
    return Body::template run<4>(args...);
}

template <typename Body, typename... Args>
__attribute__((target("avx512f,avx512bw,avx512vl"))) bool run_avx512(Args... args) {
    return Body::template run<8>(args...);
}
#endif

// Calls Body::run with the vectors of `isa`, or of the best this machine has if that is less. On
// ARM the baseline has vectors of two, and there is nothing to choose.
template <typename Body, typename... Args>
bool dispatch(Isa isa, Args... args) {
#ifdef EDGETL_X86
    const Isa level = std::min(isa, best_isa());
    if (level >= Isa::kAvx512) return run_avx512<Body>(args...);
    if (level == Isa::kAvx2) return run_avx2<Body>(args...);
#endif
    static_cast<void>(isa);
    return Body::template run<2>(args...);
}

}  // namespace edgetl
