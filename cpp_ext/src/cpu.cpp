// Finds the best instruction set this machine and its operating system offer.
#include "edgetl/preprocess.h"
#include "kernels.h"

namespace edgetl {
namespace {

Isa detect() {
#if defined(EDGETL_X86) && (defined(__GNUC__) || defined(__clang__))
    // These builtins also ask the operating system whether it saves the wide registers.
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512vnni");
    if (avx512) return Isa::kAvx512;
    if (avx2) return Isa::kAvx2;
#endif
    return Isa::kPortable;
}

}  // namespace

Isa best_isa() {
    static const Isa best = detect();
    return best;
}

const char* isa_name(Isa isa) {
    switch (isa) {
        case Isa::kAvx512:
            return "avx512";
        case Isa::kAvx2:
            return "avx2";
        case Isa::kPortable:
            break;
    }
    return "portable";
}

}  // namespace edgetl
