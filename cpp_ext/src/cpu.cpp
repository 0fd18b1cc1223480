// Finds what instruction sets this machine and its operating system offer.
#include "edgetl/preprocess.h"
#include "kernels.h"

#ifdef EDGETL_X86
#include <cpuid.h>
#endif

namespace edgetl {
namespace {

#ifdef EDGETL_X86
// Not every compiler's builtin knows it; its registers are those of AVX.
bool has_f16c() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & (1u << 29)) != 0;
}
#endif

Isa detect() {
#ifdef EDGETL_X86
    // These builtins also ask the operating system whether it saves the wide registers.
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512vnni");
    if (avx512 && __builtin_cpu_supports("avx512vbmi")) return Isa::kAvx512Vbmi;
    if (avx512) return Isa::kAvx512;
    if (avx2) return Isa::kAvx2;
#endif
#ifdef EDGETL_NEON
    return Isa::kNeon;
#endif
    return Isa::kPortable;
}

}  // namespace

Isa best_isa() {
    static const Isa best = detect();
    return best;
}

bool has_isa(Isa isa) {
    if (isa == Isa::kPortable) return true;
    return isa <= best_isa() && (isa == Isa::kNeon) == (best_isa() == Isa::kNeon);
}

const char* isa_name(Isa isa) {
    switch (isa) {
        case Isa::kAvx512Vbmi:
            return "avx512vbmi";
        case Isa::kAvx512:
            return "avx512";
        case Isa::kAvx2:
            return "avx2";
        case Isa::kNeon:
            return "neon";
        case Isa::kPortable:
            break;
    }
    return "portable";
}

}  // namespace edgetl
