// The host twin: the kernels' own sources, compiled without nvcc. See launch.h.
//
// Tests hold it against the CPU's kernels, Pillow and numpy, so the GPU's arithmetic, tiles and
// steps are tested on every machine. It is far slower than the CPU's own kernels.
#include "features.cu"    // NOLINT(bugprone-suspicious-include)
#include "neighbours.cu"  // NOLINT(bugprone-suspicious-include)
#include "preprocess.cu"  // NOLINT(bugprone-suspicious-include)

namespace edgetl::gpu {

int device_count() {
    return 0;
}

std::string why_no_device() {
    return "this is the host twin";
}

// As much as a block of the smallest supported GPU may have.
std::size_t shared_limit(int) {
    return 64 * 1024;
}

}  // namespace edgetl::gpu
