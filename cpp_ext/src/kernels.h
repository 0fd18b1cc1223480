// The inner loops every instruction set provides, and the data format between them.
//
// The horizontal loop reads a few rows of the photo at once and writes a *group*: for each output
// column one cell that holds that column's value in each of the group's rows, side by side. The
// vertical loop can then multiply a whole cell with a few weights in one instruction. Columns run
// plane by plane (NCHW) or pixel by pixel (NHWC), so the vertical loop never has to reorder
// anything.
//
// Weights of 22 fractional bits don't fit narrow multipliers, so there each is written as a sum of
// narrow digits. Sums of products are kept per digit and joined at the end; they may wrap, since
// all of it is arithmetic modulo 2^32 and the joined sum fits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

#include "edgetl/preprocess.h"
#include "normalise.h"
#include "resample.h"

// Functions that use an instruction set beyond the baseline carry it as an attribute: the rest of
// the library stays runnable on any machine.
#if (defined(__x86_64__) || defined(_M_X64)) && (defined(__GNUC__) || defined(__clang__))
#define EDGETL_X86 1
#endif
#if defined(__aarch64__) && !defined(__AARCH64EB__)
#define EDGETL_NEON 1
#endif

namespace edgetl {

// Memory that begins on a cache line: the widest loads then never straddle two.
template <typename T>
struct LineAllocator {
    using value_type = T;
    LineAllocator() = default;
    template <typename U>
    LineAllocator(const LineAllocator<U>&) {}
    T* allocate(std::size_t n) {
        return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t{64}));
    }
    void deallocate(T* p, std::size_t) { ::operator delete(p, std::align_val_t{64}); }
    bool operator==(const LineAllocator&) const { return true; }
    bool operator!=(const LineAllocator&) const { return false; }
};
template <typename T>
using LineVector = std::vector<T, LineAllocator<T>>;

// Rows of the photo, evenly spaced in memory.
struct Rows {
    const std::uint8_t* data;
    std::int64_t stride;
};

// The horizontal axis as one loop wants it; places count from the first input that has a weight.
struct Columns {
    // Reads Kernels::rows * Kernels::batch rows, writes Kernels::batch groups. `pitch` is the
    // number of columns from one plane to the next; 0 means pixel by pixel.
    void (*run)(const Rows& rows, const Columns& columns, std::int64_t pitch,
                std::uint8_t* const* groups);
    std::int64_t count;                 // outputs in a row
    std::int64_t cells;                 // of weights per output
    std::int64_t reach;                 // bytes the loop may read from a row
    std::vector<std::int64_t> offsets;  // bytes to where an output, or a few, begin to read
    LineVector<std::int32_t> words;     // the loop's own
};

// One output row, for the vertical loop.
struct Vertical {
    const std::int32_t* words;  // (groups, words_per_cell) packed weights
    std::int64_t groups;
    std::int64_t count;  // values of a plane
    std::int64_t pitch;  // columns from one plane to the next; 0: one plane, channels alternate
    std::int64_t step;   // values of the output from one plane to the next
    Dtype dtype;
    const Normal* normal;
};

// A window of consecutive rows and its packed weights, in groups from its first row on.
struct Window {
    const std::uint8_t* data;
    std::int64_t stride;
    const std::int32_t* words;
    std::int64_t rows;
};

struct Kernels {
    int rows;            // of a group
    int batch;           // groups the horizontal loop makes at once
    int cell_bytes;      // bytes of a column's cell in a group
    int words_per_cell;  // packed words for `rows` weights

    // Writes n weights, after `lead` zeros, as cells; `words` is zeroed by the caller.
    void (*pack)(const std::int32_t* weights, std::int64_t n, std::int64_t lead,
                 std::int32_t* words);
    Columns (*pack_columns)(const Axis& axis);
    // The first element of each of the window's groups -> one row of the output, all planes.
    void (*vertical)(const std::uint8_t* const* groups, const Vertical& task, void* out);
    // Adds up a window of the photo's own rows into one row of `count` bytes. For the photos whose
    // height is resized first; nothing else uses it.
    void (*reduce)(const Window& window, std::int64_t count, std::uint8_t* out);
};

// Columns are padded to a multiple of this, so that vector loops may run over the end of a group.
constexpr std::int64_t kColumnPad = 16;
// Most groups the horizontal loop makes at once.
constexpr int kMaxBatch = 4;

inline std::int64_t round_up(std::int64_t value, std::int64_t step) {
    return (value + step - 1) / step * step;
}

// Asks for bytes that the next rows begin with, wherever that is: rows lie too far apart for the
// processor to guess. Nothing is read, so it need not be memory of ours.
inline void prefetch(const std::uint8_t* p, std::int64_t distance) {
#if defined(__GNUC__) || defined(__clang__)
    const auto address =
        reinterpret_cast<std::uintptr_t>(p) + static_cast<std::uintptr_t>(distance);
    __builtin_prefetch(reinterpret_cast<const void*>(address), 0, 2);
#else
    (void)p, (void)distance;
#endif
}

// Columns for loops that make `step` outputs at once, each from cells of `cell` taps, and may read
// `overread` bytes from the beginning of a cell.
Columns pack_each_column(const Axis& axis, const Kernels& kernels, int cell, int step,
                         int overread);

extern const Kernels kPortableKernels;
#ifdef EDGETL_X86
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
extern const Kernels kAvx512VbmiKernels;
#endif
#ifdef EDGETL_NEON
extern const Kernels kNeonKernels;
#endif

}  // namespace edgetl
