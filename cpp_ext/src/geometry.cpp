// Where the crop lies, in the resized image and in the photo, and which sizes are refused.
#include "geometry.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace edgetl {
namespace {

void fail(const std::string& text) {
    throw std::invalid_argument(text);
}

std::string text_of(const Box& box) {
    return std::to_string(box.height) + " x " + std::to_string(box.width) + " pixels at row " +
           std::to_string(box.top) + ", column " + std::to_string(box.left);
}

void check_photo(std::int64_t height, std::int64_t width) {
    if (height < 1 || width < 1 || height > kMaxSide || width > kMaxSide)
        fail("image sides must be 1 to " + std::to_string(kMaxSide) + " pixels, got " +
             std::to_string(height) + " x " + std::to_string(width));
}

void check_definition(const Definition& definition) {
    if (definition.size < 1 || definition.size > definition.resize || definition.resize > 16384)
        fail("need 1 <= size <= resize <= 16384, got size=" + std::to_string(definition.size) +
             ", resize=" + std::to_string(definition.resize));
    for (int c = 0; c < 3; ++c)
        if (!std::isfinite(definition.mean[c]) || !(definition.std[c] > 0))
            fail("mean must be finite and std positive");
}

// (a - b) / 2 rounded half to even, as Python's round does.
std::int64_t half_difference(std::int64_t a, std::int64_t b) {
    const std::int64_t half = (a - b) / 2;
    return (a - b) % 2 == 0 ? half : half + half % 2;
}

// First input of an axis that its outputs depend on, and one beyond the last.
struct Span {
    std::int64_t low;
    std::int64_t high;
};

Span find_span(std::int64_t in, std::int64_t out, std::int64_t first, std::int64_t count,
               Filter filter) {
    return {find_tap(in, out, first, filter).low,
            find_tap(in, out, first + count - 1, filter).high};
}

}  // namespace

Geometry geometry(std::int64_t height, std::int64_t width, const Definition& definition) {
    Geometry result{definition.resize, definition.resize, 0, 0, false};
    if (definition.fit == Fit::kShortest) {
        const std::int64_t shorter = std::min(height, width), longer = std::max(height, width);
        // A product of at most 34 bits: exact as a double, so the quotient is rounded once.
        const auto length = static_cast<std::int64_t>(
            static_cast<double>(definition.resize * longer) / static_cast<double>(shorter));
        (height < width ? result.width : result.height) = length;
    }
    result.top = half_difference(result.height, definition.size);
    result.left = half_difference(result.width, definition.size);
    const std::int64_t fewer_rows = height - result.height, fewer_columns = width - result.width;
    result.rows_first = fewer_rows > 0 && fewer_rows > 2 * fewer_columns;
    return result;
}

Box needed(std::int64_t height, std::int64_t width, const Definition& definition) {
    check_photo(height, width);
    check_definition(definition);
    const Geometry place = geometry(height, width, definition);
    const Span rows =
        find_span(height, place.height, place.top, definition.size, definition.filter);
    const Span columns =
        find_span(width, place.width, place.left, definition.size, definition.filter);
    return {rows.low, columns.low, rows.high - rows.low, columns.high - columns.low};
}

std::int64_t output_bytes(const Definition& definition) {
    check_definition(definition);  // before anybody multiplies what is in it
    return 3 * definition.size * definition.size * value_bytes(definition.dtype);
}

void check(const Image& image, const Definition& definition, int threads) {
    const Box least = needed(image.height, image.width, definition);
    const Box& part = image.part;
    const bool inside = part.top >= 0 && part.left >= 0 && part.height >= 1 && part.width >= 1 &&
                        part.height <= image.height - part.top &&
                        part.width <= image.width - part.left;
    if (image.data == nullptr || !inside)
        fail("the part at hand must lie inside the photo of " + std::to_string(image.height) +
             " x " + std::to_string(image.width) + " pixels, got " + text_of(part));
    if (part.top > least.top || part.left > least.left ||
        part.top + part.height < least.top + least.height ||
        part.left + part.width < least.left + least.width)
        fail("the part at hand must cover " + text_of(least) + ", got " + text_of(part));
    if (threads < 1) fail("threads must be at least 1, got " + std::to_string(threads));
}

}  // namespace edgetl
