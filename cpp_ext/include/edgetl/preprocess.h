// The public face of the CPU preprocessing kernel: plain pointers and sizes, no Python.
//
// One call turns one decoded photo (uint8, rows of packed RGB) into one network input: antialiased
// resize and centre crop, then normalisation and layout (float32), or the bytes as they are
// (uint8), in one pass over the data. Only what the crop shows is computed. On every instruction
// set the resize equals Pillow's Image.resize to the bit, and the normalisation equals (value / 255
// - mean) / std rounded after each step.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "edgetl/arithmetic.h"

namespace edgetl {

// In rising order; a machine that has one has those before it.
enum class Isa { kPortable = 0, kAvx2 = 1, kAvx512 = 2 };

enum class Layout { kNchw, kNhwc };
enum class Fit { kShortest, kSquash };

// Sides beyond this are refused: the fixed-point weights would lose their meaning long after it.
constexpr std::int64_t kMaxSide = std::int64_t{1} << 20;

struct Image {
    const std::uint8_t* data;  // first byte of the first row
    std::int64_t height;
    std::int64_t width;
    std::int64_t
        stride;  // bytes from one row to the next; may be negative or larger than 3 * width
};

struct Definition {
    std::int64_t size;    // side of the output
    std::int64_t resize;  // shorter side after resizing (Fit::kShortest) or both (Fit::kSquash)
    Filter filter;
    Layout layout;
    Fit fit;
    float mean[3];
    float std[3];
};

// Where the crop lies in the resized image; follows torchvision's Resize and CenterCrop. Which axis
// goes first matters, since values are rounded to bytes between the two; it follows Pillow 13.
struct Geometry {
    std::int64_t height;  // of the resized image, which is never built
    std::int64_t width;
    std::int64_t top;
    std::int64_t left;
    bool rows_first;  // the height is resized before the width
};

Geometry geometry(std::int64_t height, std::int64_t width, const Definition& definition);

// The best instruction set of this machine and operating system, found once.
Isa best_isa();
const char* isa_name(Isa isa);

// Writes 3 * size * size floats to `out`. `threads` splits the output rows; `isa` beyond what the
// machine has falls back to the best there is. Throws std::invalid_argument for sizes out of range.
void preprocess(const Image& image, const Definition& definition, float* out, int threads, Isa isa);

// Writes 3 * size * size bytes, pixel by pixel: what the other one normalises. The layout must be
// Layout::kNhwc; mean and std are checked and not used.
void preprocess(const Image& image, const Definition& definition, std::uint8_t* out, int threads,
                Isa isa);

}  // namespace edgetl
