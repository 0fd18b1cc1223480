// The inner loops every instruction set provides, and the data format between them.
//
// The horizontal loop reads a few rows of the photo at once and writes a *group*: for each output
// column one cell that holds that column's value in each of the group's rows, side by side. The
// vertical loop can then multiply a whole cell with a few weights in one instruction. Columns run
// plane by plane (NCHW) or pixel by pixel (NHWC), so the vertical loop never has to reorder
// anything.
//
// Weights of 22 fractional bits don't fit the narrow multipliers, so each is written as a sum of
// narrow digits. Sums of products are kept per digit and joined at the end; they may wrap, since
// all of it is arithmetic modulo 2^32 and the joined sum fits.
#pragma once

#include <cstdint>

#include "edgetl/arithmetic.h"
#include "normalise.h"

// Functions that use an instruction set beyond the baseline carry it as an attribute: the rest of
// the library stays runnable on any machine.
#if defined(__x86_64__) || defined(_M_X64)
#define EDGETL_X86 1
#endif
#if defined(EDGETL_X86) && (defined(__GNUC__) || defined(__clang__))
#define EDGETL_TARGET(features) __attribute__((target(features)))
#else
#define EDGETL_TARGET(features)
#endif

namespace edgetl {

// Rows of the photo, evenly spaced in memory.
struct Rows {
    const std::uint8_t* data;
    std::int64_t stride;
};

// What the horizontal loop needs besides the rows.
struct Horizontal {
    const std::int64_t* offsets;  // (count) byte offset of each output's first tap
    const std::int32_t* words;    // (count, cells, words_per_cell) packed weights
    std::int64_t count;           // outputs in a row, padded to a multiple of kColumnStep
    std::int64_t cells;           // cells of weights per output
    std::int64_t pitch;           // columns from one plane to the next; 0 means pixel by pixel
};

// What the vertical loop needs besides the groups.
struct Vertical {
    const std::int32_t* words;  // (groups, words_per_cell) packed weights of this output row
    std::int64_t groups;
    const Normal* normal;
    int channel;  // 0, 1, 2: this plane; -1: channels alternate
};

// A window of consecutive rows and its weights, not packed.
struct Window {
    const std::uint8_t* data;
    std::int64_t stride;
    const std::int32_t* weights;
    std::int64_t rows;
};

struct Kernels {
    int rows;            // rows of a group
    int batch;           // groups the horizontal loop makes at once, from rows * batch rows
    int cell_bytes;      // bytes of a column's cell in a group
    int words_per_cell;  // packed words for `rows` weights
    int overread;        // bytes that may be read from the start of the last cell's taps

    // Writes n weights, after `lead` zeros, as cells; `words` is zeroed by the caller.
    void (*pack)(const std::int32_t* weights, std::int64_t n, std::int64_t lead,
                 std::int32_t* words);
    void (*horizontal)(const Rows& rows, const Horizontal& task, std::uint8_t* const* groups);
    void (*vertical)(const std::uint8_t* const* groups, const Vertical& task, std::int64_t count,
                     float* out);
    // The same without normalisation; uses nothing of the task but the weights.
    void (*vertical_bytes)(const std::uint8_t* const* groups, const Vertical& task,
                           std::int64_t count, std::uint8_t* out);
    // Adds up a window of the photo's own rows into one row of `count` bytes. For the photos whose
    // height is resized first; nothing else uses it.
    void (*reduce)(const Window& window, std::int64_t count, std::uint8_t* out);
};

// Columns are padded to a multiple of this, so that vector loops may run over the end of a group.
constexpr std::int64_t kColumnPad = 16;
// Outputs the horizontal loop makes at once.
constexpr std::int64_t kColumnStep = 4;
// Most rows the horizontal loop reads at once.
constexpr int kMaxRows = 8;

extern const Kernels kPortableKernels;
void reduce_portable(const Window& window, std::int64_t count, std::uint8_t* out);
#ifdef EDGETL_X86
void reduce_avx2(const Window& window, std::int64_t count, std::uint8_t* out);
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#endif

}  // namespace edgetl
