// Preprocessing of a batch of photos on the GPU: plain pointers, sizes and a stream.
//
// Photos of any sizes lie in one buffer, as packed RGB or plane by plane. Each becomes an input of
// one size by the arithmetic of preprocess.h: the results equal the CPU's to the bit. Nothing is
// allocated and nothing waited for, so the calls can be captured in a graph.
#pragma once

#include <cstddef>
#include <cstdint>

#include "edgetl/cuda_device.h"
#include "edgetl/preprocess.h"

namespace edgetl::gpu {

// A photo in the buffer, and where its crop lies (see edgetl::Geometry). The table of a
// batch is made on the host, and copied to the device by the caller.
struct Photo {
    std::int64_t offset;  // bytes from the buffer's begin to the first pixel
    std::int64_t stride;  // bytes from one row to the next
    std::int64_t height;
    std::int64_t width;
    std::int64_t plane;  // bytes from red to green to blue; 0 where pixels are packed RGB
    std::int64_t rows;   // height of the resized photo
    std::int64_t columns;
    std::int64_t top;
    std::int64_t left;
    std::int64_t rows_first;  // 1 where the height is resized before the width
};

// Fills in a photo's geometry from its height and width.
void place(Photo& photo, const Definition& definition);

// How a launch is cut up: decided by the photos that shrink most. Whatever shrinks no more fits
// too.
struct Plan {
    std::int32_t tile_width;  // of the output, in pixels
    std::int32_t tile_height;
    std::int32_t tiles_x;
    std::int32_t tiles_y;
    std::int32_t quads_x;  // most weights of one output, in fours
    std::int32_t quads_y;
    std::int32_t chunk;     // groups of four input rows that are resampled at once
    std::int32_t ring;      // groups that are kept
    std::int32_t pitch;     // bytes from one row to the next in shared memory
    std::size_t shared;     // bytes of shared memory of one block
    std::size_t workspace;  // bytes of device memory for n photos
};

// Throws std::invalid_argument where a photo shrinks so much that a tile can't be made within
// `shared_limit` bytes of shared memory; the message says which. Such a photo is for the CPU.
Plan plan_preprocess(const Photo* photos, std::int64_t n, const Definition& definition,
                     std::size_t shared_limit);

struct Batch {
    const std::uint8_t* pixels;  // device; aligned to 16 bytes
    std::int64_t bytes;
    const Photo* table;  // device; (n)
    std::int64_t n;
    void* workspace;  // device; plan.workspace bytes, aligned to 16
};

// Writes (n, 3, size, size) or (n, size, size, 3) numbers to `out` (device). kUint8 are the bytes
// before normalisation. A photo of the table that shrinks more than the plan allows for is left
// out: its part of `out` is not written.
void preprocess(const Batch& batch, const Definition& definition, const Plan& plan, Number number,
                void* out, const Queue& queue);

}  // namespace edgetl::gpu
