// How a kernel's body is run: on a GPU by nvcc's code, or on the host as its twin.
//
// A body is a struct with `Args` (by value), `State` (what a thread keeps), `kThreads`, `begin`
// (fills the state; says how many steps the block takes) and `step`. Between two steps all threads
// of a block meet, and inside a step no thread reads what another one writes; so plain loops over
// blocks, steps and threads give what the GPU gives, in whatever order the threads run. The twin
// has no streams: there the stream's number picks that order (0 rising, 1 falling, else shuffled),
// so tests can show that it is free.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#else
#include <algorithm>
#include <cstring>
#include <random>
#include <vector>
#endif

#include "edgetl/arithmetic.h"
#include "edgetl/cuda_device.h"

namespace edgetl::gpu {

// 16 bytes that are moved as one.
struct alignas(16) Vector16 {
    std::uint32_t words[4];
};

struct alignas(8) Vector8 {
    std::uint32_t words[2];
};

struct Grid {
    std::int64_t blocks;
    std::size_t shared;  // bytes of shared memory
};

constexpr std::int64_t kMostBlocks = (std::int64_t{1} << 31) - 1;

inline void check_grid(const Grid& grid, const char* what) {
    if (grid.blocks < 1 || grid.blocks > kMostBlocks)
        throw std::invalid_argument(std::string(what) + ": " + std::to_string(grid.blocks) +
                                    " blocks of work; a launch takes 1 to " +
                                    std::to_string(kMostBlocks));
}

#if defined(__CUDACC__)

inline void check_call(cudaError_t error, const char* what, const Grid& grid) {
    if (error == cudaSuccess) return;
    cudaGetLastError();  // the runtime remembers it, and it is no error of a later call
    throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error) + " (" +
                             std::to_string(grid.blocks) + " blocks, " +
                             std::to_string(grid.shared) + " bytes of shared memory each)");
}

// The device of a call is the current one while it lasts, and afterwards the one before.
class DeviceGuard {
  public:
    DeviceGuard(int device, const char* what, const Grid& grid) {
        check_call(cudaGetDevice(&before_), what, grid);
        if (before_ != device) check_call(cudaSetDevice(device), what, grid);
        changed_ = before_ != device;
    }
    ~DeviceGuard() {
        if (changed_) cudaSetDevice(before_);
    }
    DeviceGuard(const DeviceGuard&) = delete;
    DeviceGuard& operator=(const DeviceGuard&) = delete;

  private:
    int before_ = 0;
    bool changed_ = false;
};

template <class Body>
__global__ void __launch_bounds__(Body::kThreads, Body::kBlocks)
    run_body(const typename Body::Args args) {
    extern __shared__ Vector16 shared[];
    typename Body::State state;
    const int block = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
    const int steps = Body::begin(args, block, state);
    for (int step = 0; step < steps; ++step) {
        Body::step(args, block, thread, step, state, reinterpret_cast<unsigned char*>(shared));
        __syncthreads();
    }
}

// Lets a kernel have as much shared memory as there is. Never less: another thread may be about to
// launch the same kernel with more than this launch needs.
template <class Body>
void allow_shared(const Queue& queue, const char* what, const Grid& grid) {
    int most = 0;
    check_call(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, queue.device),
               what, grid);
    check_call(
        cudaFuncSetAttribute(run_body<Body>, cudaFuncAttributeMaxDynamicSharedMemorySize, most),
        what, grid);
}

// Queues the work and returns; allocates nothing and waits for nothing, so it can be captured.
template <class Body>
void launch(const typename Body::Args& args, const Grid& grid, const Queue& queue,
            const char* what) {
    check_grid(grid, what);
    const DeviceGuard guard(queue.device, what, grid);
    constexpr std::size_t kWithoutAsking = 48 * 1024;
    if (grid.shared > kWithoutAsking) allow_shared<Body>(queue, what, grid);
    run_body<Body><<<static_cast<unsigned>(grid.blocks), Body::kThreads, grid.shared,
                     reinterpret_cast<cudaStream_t>(queue.stream)>>>(args);
    check_call(cudaGetLastError(), what, grid);
}

#else

template <class Body>
void launch(const typename Body::Args& args, const Grid& grid, const Queue& queue,
            const char* what) {
    check_grid(grid, what);
    std::vector<int> order(Body::kThreads);
    for (int i = 0; i < Body::kThreads; ++i)
        order[i] = queue.stream == 1 ? Body::kThreads - 1 - i : i;
    if (queue.stream > 1)
        std::shuffle(order.begin(), order.end(),
                     std::mt19937(static_cast<std::mt19937::result_type>(queue.stream)));
    std::vector<Vector16> shared((grid.shared + 15) / 16);
    for (std::int64_t block = 0; block < grid.blocks; ++block) {
        // Shared memory begins with whatever was there.
        if (!shared.empty()) std::memset(shared.data(), 0xa5, 16 * shared.size());
        std::vector<typename Body::State> states(Body::kThreads);
        int steps = 0;
        for (int thread : order) steps = Body::begin(args, static_cast<int>(block), states[thread]);
        for (int step = 0; step < steps; ++step)
            for (int thread : order)
                Body::step(args, static_cast<int>(block), thread, step, states[thread],
                           reinterpret_cast<unsigned char*>(shared.data()));
    }
}

#endif

}  // namespace edgetl::gpu
