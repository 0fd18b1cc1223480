// The public face of the CPU preprocessing kernel: plain pointers and sizes, no Python.
//
// One call turns one decoded photo (uint8, rows of packed RGB) into one network input: antialiased
// resize and centre crop, then normalisation, type and layout, in one pass over the data. Only what
// the crop shows is computed, and only what it depends on has to be decoded. On every instruction
// set the resize equals Pillow's Image.resize to the bit, the normalisation equals (value / 255 -
// mean) / std rounded to float32 after each step, and the 16-bit types are that rounded once more.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "edgetl/arithmetic.h"

namespace edgetl {

// In rising order for each processor: one that has an instruction set has those of its kind before
// it. kAvx512 includes VNNI, kAvx512Vbmi VBMI as well.
enum class Isa { kPortable = 0, kNeon = 1, kAvx2 = 2, kAvx512 = 3, kAvx512Vbmi = 4 };
constexpr Isa kIsas[] = {Isa::kPortable, Isa::kNeon, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Vbmi};

enum class Layout { kNchw, kNhwc };
enum class Fit { kShortest, kSquash };
// kUint8 is the resized bytes as they are; mean and std are then checked and not used.
enum class Dtype { kFloat32, kFloat16, kBfloat16, kUint8 };

// Sides beyond this are refused: the fixed-point weights would lose their meaning long after it.
constexpr std::int64_t kMaxSide = std::int64_t{1} << 20;

// A rectangle of a photo, in its pixels.
struct Box {
    std::int64_t top;
    std::int64_t left;
    std::int64_t height;
    std::int64_t width;
};

// A photo, or the part of one that is at hand.
struct Image {
    const std::uint8_t* data;  // first byte of the first row of `part`
    std::int64_t height;       // of the whole photo
    std::int64_t width;
    std::int64_t stride;  // bytes from one row to the next; may be negative, or leave gaps
    Box part;             // where in the whole photo `data` lies
};

inline Image whole_image(const std::uint8_t* data, std::int64_t height, std::int64_t width,
                         std::int64_t stride) {
    return {data, height, width, stride, {0, 0, height, width}};
}

struct Definition {
    std::int64_t size;    // side of the output
    std::int64_t resize;  // shorter side after resizing (Fit::kShortest) or both (Fit::kSquash)
    Filter filter;
    Layout layout;
    Fit fit;
    Dtype dtype;
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

// The part of a photo of height x width pixels that the output depends on; never empty. Throws
// std::invalid_argument for sizes out of range.
Box needed(std::int64_t height, std::int64_t width, const Definition& definition);

// Bytes of one output. Throws std::invalid_argument for a definition out of range.
std::int64_t output_bytes(const Definition& definition);

// The best instruction set of this machine and operating system, found once.
Isa best_isa();
bool has_isa(Isa isa);
const char* isa_name(Isa isa);

// Writes 3 * size * size values to `out`, aligned for the type, without gaps. What a part gives
// equals, to the bit, what the whole photo gives. The output rows are split over `threads`, or over
// fewer where the photo is small; an `isa` that the machine lacks falls back to the best there is.
// Throws std::invalid_argument for sizes out of range, or a part that does not cover what is
// needed.
void preprocess(const Image& image, const Definition& definition, void* out, int threads, Isa isa);

}  // namespace edgetl
