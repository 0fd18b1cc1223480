// Reads the pixels of camera frames in any order; the formula for YUV is in edgetl.h.
#include "frame.h"

#include <algorithm>
#include <string>

#include "boundary.h"

namespace edgetl::capi {
namespace {

bool is_yuv(const edgetl_frame& frame) {
    return frame.format == EDGETL_NV12 || frame.format == EDGETL_NV21;
}

std::int64_t row_bytes(const edgetl_frame& frame, int plane) {
    const std::int64_t width = frame.width;
    if (is_yuv(frame)) return plane == 0 ? width : 2 * ((width + 1) / 2);
    return (frame.format == EDGETL_RGB || frame.format == EDGETL_BGR ? 3 : 4) * width;
}

// One pixel of packed formats: where red is, and how far apart pixels are.
struct Packed {
    const edgetl_frame& frame;
    int step;
    int red;  // 0 or 2; blue is the other one

    void read(std::int64_t y, std::int64_t x, std::uint8_t* rgb) const {
        const std::uint8_t* pixel = frame.planes[0] + y * frame.strides[0] + x * step;
        rgb[0] = pixel[red];
        rgb[1] = pixel[1];
        rgb[2] = pixel[2 - red];
    }
};

// BT.601 in units of 1 / 65536.
struct Coefficients {
    int black, y, red_v, green_u, green_v, blue_u;
};
constexpr Coefficients kFull{0, 65536, 91881, 22553, 46802, 116130};
constexpr Coefficients kLimited{16, 76309, 104597, 25675, 53279, 132201};

std::uint8_t to_byte(int value) {
    const int rounded = value + (1 << 15);
    // Negative numbers are clamped before the shift, which is not defined for them.
    return static_cast<std::uint8_t>(rounded < 0 ? 0 : std::min(rounded >> 16, 255));
}

struct Yuv {
    const edgetl_frame& frame;
    Coefficients k;
    int u_first;  // 0 where U comes before V, otherwise 1

    void read(std::int64_t y, std::int64_t x, std::uint8_t* rgb) const {
        const std::uint8_t* pair = frame.planes[1] + y / 2 * frame.strides[1] + 2 * (x / 2);
        const int light = k.y * (frame.planes[0][y * frame.strides[0] + x] - k.black);
        const int u = pair[u_first] - 128, v = pair[1 - u_first] - 128;
        rgb[0] = to_byte(light + k.red_v * v);
        rgb[1] = to_byte(light - k.green_u * u - k.green_v * v);
        rgb[2] = to_byte(light + k.blue_u * u);
    }
};

// Where the upright frame's pixel (row, column) lies: origin + row down + column across.
struct Walk {
    std::int64_t y, x, down_y, down_x, across_y, across_x;
};

Walk walk_of(const edgetl_frame& frame) {
    const std::int64_t bottom = frame.height - 1, right = frame.width - 1;
    switch (frame.rotation) {
        case 90:
            return {bottom, 0, 0, 1, -1, 0};
        case 180:
            return {bottom, right, -1, 0, 0, -1};
        case 270:
            return {0, right, 0, -1, 1, 0};
        default:
            return {0, 0, 1, 0, 0, 1};
    }
}

template <typename Reader>
void copy(const Reader& reader, const Walk& walk, const Box& part, std::uint8_t* out) {
    for (std::int64_t row = part.top; row < part.top + part.height; ++row) {
        std::int64_t y = walk.y + row * walk.down_y + part.left * walk.across_y;
        std::int64_t x = walk.x + row * walk.down_x + part.left * walk.across_x;
        for (std::int64_t i = 0; i < part.width; ++i, out += 3) {
            reader.read(y, x, out);
            y += walk.across_y;
            x += walk.across_x;
        }
    }
}

bool sideways(const edgetl_frame& frame) {
    return frame.rotation == 90 || frame.rotation == 270;
}

}  // namespace

void check(edgetl_frame& frame) {
    if (frame.format < EDGETL_RGB || frame.format > EDGETL_NV21)
        throw Failure(EDGETL_UNSUPPORTED,
                      "frame.format is " + std::to_string(frame.format) + ", which is none");
    if (is_yuv(frame) && frame.range != EDGETL_LIMITED && frame.range != EDGETL_FULL)
        throw Failure(EDGETL_UNSUPPORTED,
                      "frame.range is " + std::to_string(frame.range) + ", which is none");
    if (frame.reserved != 0) throw Failure(EDGETL_UNSUPPORTED, "frame.reserved must be 0");
    if (frame.width < 1 || frame.height < 1 || frame.width > kMaxSide || frame.height > kMaxSide)
        refuse("frame sides must be 1 to " + std::to_string(kMaxSide) + " pixels, got " +
               std::to_string(frame.height) + " x " + std::to_string(frame.width));
    if (frame.rotation != 0 && frame.rotation != 90 && frame.rotation != 180 &&
        frame.rotation != 270)
        refuse("frame.rotation must be 0, 90, 180 or 270, got " + std::to_string(frame.rotation));
    for (int plane = 0; plane < (is_yuv(frame) ? 2 : 1); ++plane) {
        if (frame.planes[plane] == nullptr)
            refuse("frame.planes[" + std::to_string(plane) + "] is NULL");
        constexpr std::int64_t kMostStride = std::int64_t{1} << 40;  // far from overflow
        const std::int64_t least = row_bytes(frame, plane);
        std::int64_t& stride = frame.strides[plane];
        if (stride == 0) stride = least;
        if ((stride > -least && stride < least) || stride > kMostStride || stride < -kMostStride)
            refuse("frame.strides[" + std::to_string(plane) + "] is " + std::to_string(stride) +
                   ", but a row has " + std::to_string(least) + " bytes");
    }
}

std::int64_t upright_height(const edgetl_frame& frame) {
    return sideways(frame) ? frame.width : frame.height;
}

std::int64_t upright_width(const edgetl_frame& frame) {
    return sideways(frame) ? frame.height : frame.width;
}

void to_rgb(const edgetl_frame& frame, const Box& part, std::uint8_t* out) {
    const Walk walk = walk_of(frame);
    if (is_yuv(frame)) {
        const Coefficients& k = frame.range == EDGETL_FULL ? kFull : kLimited;
        return copy(Yuv{frame, k, frame.format == EDGETL_NV12 ? 0 : 1}, walk, part, out);
    }
    const bool red_first = frame.format == EDGETL_RGB || frame.format == EDGETL_RGBA;
    const int step = frame.format == EDGETL_RGB || frame.format == EDGETL_BGR ? 3 : 4;
    copy(Packed{frame, step, red_first ? 0 : 2}, walk, part, out);
}

}  // namespace edgetl::capi
