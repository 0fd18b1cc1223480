// The most similar rows of a memory, on the GPU: plain pointers, sizes and a stream.
#pragma once

#include <cstddef>
#include <cstdint>

#include "edgetl/cuda_device.h"

namespace edgetl::gpu {

constexpr std::int64_t kMostNeighbours = 64;

struct Search {
    const void* queries;  // device; (n, dim), row by row
    std::int64_t n;
    const void* memory;  // device; (rows, dim), of the same type
    std::int64_t rows;
    std::int64_t dim;
    Number number;  // any but kUint8
    std::int64_t k;
};

// Bytes of device memory that `nearest` needs.
std::size_t nearest_workspace(const Search& search);

// For each query the k rows with the largest products, the largest first, of equal ones the row
// that comes first: numbers of the rows (n, k) and products (n, k) (device). For rows of length 1
// these are cosines. Products are float32, summed element after element. The products of all rows
// are never stored: memory is read once for every 16 queries. Rows that are not a number (NaN) are
// never found; where fewer than k are left, the number is -1. Throws std::invalid_argument unless 1
// <= k <= kMostNeighbours and k <= rows.
void nearest(const Search& search, void* workspace, std::int64_t* indices, float* similarities,
             const Queue& queue);

}  // namespace edgetl::gpu
