// Decodes one photo: which part at which scale, and how it is turned upright.
#include "edgetl/photo.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

namespace edgetl {
namespace {

constexpr std::size_t kKept = std::size_t{8} << 20;  // bytes that a thread keeps between calls

// Tiny images: two scales may then give the same size, and decoders choose differently.
constexpr std::int64_t kSmallestScaled = 64;

// How a stored image becomes the upright one: first mirrored along its diagonal, then each axis.
struct Turn {
    bool transposed, columns_reversed, rows_reversed;

    explicit Turn(int orientation)
        : transposed(orientation >= 5),
          columns_reversed(orientation == 2 || orientation == 3 || orientation == 6 ||
                           orientation == 7),
          rows_reversed(orientation == 3 || orientation == 4 || orientation == 7 ||
                        orientation == 8) {}

    // Where a part of the upright image of height x width pixels lies in the stored one.
    Box stored(Box box, std::int64_t height, std::int64_t width) const {
        if (rows_reversed) box.top = height - box.top - box.height;
        if (columns_reversed) box.left = width - box.left - box.width;
        return transposed ? Box{box.left, box.top, box.width, box.height} : box;
    }
};

void copy_pixel(const std::uint8_t* from, std::uint8_t* to) {
    to[0] = from[0];
    to[1] = from[1];
    to[2] = from[2];
}

// Writes `box` of the upright image; `from` is the pixel its first one (top left) comes from, the
// steps lead to those of the next row and the next column.
void turn_pixels(const std::uint8_t* from, std::int64_t row_step, std::int64_t column_step,
                 const Box& box, std::uint8_t* to) {
    // In squares, so that both sides stay in the first-level cache where rows become columns.
    constexpr std::int64_t kSquare = 32;
    for (std::int64_t top = 0; top < box.height; top += kSquare)
        for (std::int64_t left = 0; left < box.width; left += kSquare) {
            const std::int64_t bottom = std::min(top + kSquare, box.height);
            const std::int64_t right = std::min(left + kSquare, box.width);
            for (std::int64_t y = top; y < bottom; ++y)
                for (std::int64_t x = left; x < right; ++x)
                    copy_pixel(from + y * row_step + x * column_step, to + 3 * (y * box.width + x));
        }
}

int divisor_of(const Recipe& recipe, const JpegHeader& header) {
    if (!recipe.scaled) return 1;
    // Powers of two only: the codec has fast inverse transforms for these.
    const std::int64_t shorter = std::min(header.height, header.width);
    for (int divisor : {8, 4, 2})
        if ((shorter + divisor - 1) / divisor >= kScaledMargin * recipe.definition.resize)
            return divisor;
    return 1;
}

// The pixels of `wanted` turned upright, from a decoded part that covers them.
Image upright_image(const Pixels& pixels, const Turn& turn, const Box& wanted, std::int64_t height,
                    std::int64_t width, Scratch* scratch) {
    if (!turn.transposed && !turn.rows_reversed && !turn.columns_reversed)
        return {pixels.data, height, width, pixels.stride, pixels.part};
    const Box stored = turn.stored(wanted, height, width);
    std::int64_t row_step = pixels.stride, column_step = 3;
    std::int64_t y = stored.top - pixels.part.top, x = stored.left - pixels.part.left;
    // The stored axes that the upright rows and columns run along.
    std::int64_t& down = turn.transposed ? x : y;
    std::int64_t& across = turn.transposed ? y : x;
    if (turn.transposed) std::swap(row_step, column_step);
    if (turn.rows_reversed) {
        down += wanted.height - 1;
        row_step = -row_step;
    }
    if (turn.columns_reversed) {
        across += wanted.width - 1;
        column_step = -column_step;
    }
    std::uint8_t* to = scratch->reserve(3 * wanted.height * wanted.width);
    turn_pixels(pixels.data + y * pixels.stride + 3 * x, row_step, column_step, wanted, to);
    return {to, height, width, 3 * wanted.width, wanted};
}

}  // namespace

const char* decode_photo(const Recipe& recipe, const std::uint8_t* data, std::size_t size,
                         Workspace* workspace, Image* image) {
    if (recipe.jpeg == nullptr) return "no JPEG library";
    JpegHeader header{};
    if (!scan_jpeg(data, size, &header)) return "not a plain JPEG file";
    if (!header.usual_sampling) return "colours sampled in an unusual way";
    if (header.height * header.width > kMaxPixels) return "too large";
    const int divisor = divisor_of(recipe, header);
    if (divisor > 1 && std::max(header.height, header.width) < kSmallestScaled)
        return "too small to be scaled";

    const Turn turn(header.orientation);
    std::int64_t height = (header.height + divisor - 1) / divisor;
    std::int64_t width = (header.width + divisor - 1) / divisor;
    if (turn.transposed) std::swap(height, width);
    const Box wanted = needed(height, width, recipe.definition);
    Pixels pixels{};
    const char* reason =
        decode_jpeg(*recipe.jpeg, data, size, header, divisor, turn.stored(wanted, height, width),
                    &workspace->decoded, &pixels, &workspace->message);
    if (reason != nullptr) return reason;
    *image = upright_image(pixels, turn, wanted, height, width, &workspace->upright);
    return nullptr;
}

std::vector<std::string> prepare_photos(const Recipe& recipe, const std::vector<Bytes>& photos,
                                        void* out, int threads) {
    std::vector<std::string> declined(photos.size());
    std::atomic<std::size_t> next{0};
    std::exception_ptr error;
    std::mutex mutex;
    const std::int64_t bytes = output_bytes(recipe.definition);
    const auto work = [&] {
        thread_local Workspace workspace;
        try {
            for (std::size_t i = next++; i < photos.size(); i = next++) {
                Image image{};
                const char* reason =
                    decode_photo(recipe, photos[i].data, photos[i].size, &workspace, &image);
                if (reason == nullptr)
                    preprocess(image, recipe.definition,
                               static_cast<std::uint8_t*>(out) + i * bytes, 1, recipe.isa);
                else
                    declined[i] = reason;
            }
        } catch (...) {
            next = photos.size();
            const std::lock_guard<std::mutex> lock(mutex);
            error = std::current_exception();
        }
        workspace.trim(kKept);
    };
    std::vector<std::thread> helpers;
    try {
        const auto most = std::min<std::size_t>(threads, photos.size());
        while (helpers.size() + 1 < most) helpers.emplace_back(work);
    } catch (const std::system_error&) {
        // No more threads to be had: those that are there do the rest.
    }
    work();
    for (std::thread& helper : helpers) helper.join();
    if (error) std::rethrow_exception(error);
    return declined;
}

}  // namespace edgetl
