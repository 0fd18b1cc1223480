// What the GPU kernels have in common: where work is queued, and the types of numbers.
//
// Each function of edgetl::gpu has two implementations: the GPU's, in the module _cuda, and its
// host twin, in the module _core, where pointers are the host's. They give the same bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace edgetl::gpu {

struct Queue {
    int device;             // its number, as CUDA counts
    std::uintptr_t stream;  // a cudaStream_t; 0 is the default stream
};

enum class Number { kFloat32 = 0, kFloat16 = 1, kBfloat16 = 2, kUint8 = 3 };

inline std::size_t bytes_of(Number number) {
    return number == Number::kFloat32 ? 4 : number == Number::kUint8 ? 1 : 2;
}

// How many devices there are; 0 without a driver. The twin has none.
int device_count();
// Why there is none: what the runtime says. Empty where there are some.
std::string why_no_device();
// Most shared memory that one block of a kernel may have.
std::size_t shared_limit(int device);

}  // namespace edgetl::gpu
