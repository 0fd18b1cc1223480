// What there is to compute on; see edgetl/cuda_device.h. Only nvcc compiles this file.
#include <cuda_runtime.h>

#include <stdexcept>

#include "edgetl/cuda_device.h"

namespace edgetl::gpu {

int device_count() {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess) {
        cudaGetLastError();  // it is no error of a later call
        return 0;
    }
    return count;
}

std::string why_no_device() {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess) {
        cudaGetLastError();
        return cudaGetErrorString(error);
    }
    return count > 0 ? "" : "the driver counts 0 devices";
}

std::size_t shared_limit(int device) {
    int bytes = 0;
    const cudaError_t error =
        cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    if (error != cudaSuccess) {
        cudaGetLastError();
        throw std::runtime_error("CUDA device " + std::to_string(device) + ": " +
                                 cudaGetErrorString(error));
    }
    return static_cast<std::size_t>(bytes);
}

}  // namespace edgetl::gpu
