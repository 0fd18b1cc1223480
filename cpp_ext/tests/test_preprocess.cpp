// The preprocessing kernel: every instruction set against the portable one, that one against
// hashes made by Pillow, and what has to hold whatever the numbers are.
#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "check.h"
#include "edgetl/preprocess.h"
#include "photos.h"
#include "random.h"

namespace {

using check::Photo;
using edgetl::Definition;
using edgetl::Dtype;
using edgetl::Filter;
using edgetl::Fit;
using edgetl::Isa;
using edgetl::Layout;

struct Golden {
    std::uint64_t seed;
    std::int64_t height, width, resize, size;
    Filter filter;
    Layout layout;
    Fit fit;
    Dtype dtype;
    std::uint64_t hash;
};

const Golden kGolden[] = {
#include "golden.inc"
};

Definition plain(std::int64_t size) {
    return {size,         size,          Filter::kBilinear, Layout::kNhwc,
            Fit::kSquash, Dtype::kUint8, {0, 0, 0},         {1, 1, 1}};
}

Photo small_photo(check::Random& random) {
    const std::int64_t longest = random.coin() ? 24 : 160;
    const std::int64_t height = random.between(1, longest);
    return check::random_photo(random, height, random.between(1, longest), random.coin());
}

}  // namespace

TEST(golden_hashes_hold_on_every_instruction_set) {
    for (const Golden& golden : kGolden) {
        check::Random random(golden.seed);
        const Photo photo =
            check::random_photo(random, golden.height, golden.width, golden.seed % 2 == 1);
        const Definition definition{golden.size,
                                    golden.resize,
                                    golden.filter,
                                    golden.layout,
                                    golden.fit,
                                    golden.dtype,
                                    {0.485f, 0.456f, 0.406f},
                                    {0.229f, 0.224f, 0.225f}};
        for (const Isa isa : check::machine_isas()) {
            const auto out = check::run(photo.view(), definition, 1, isa);
            CHECK_EQUAL(check::fnv1a(out.data(), out.size()), golden.hash,
                        "seed " + std::to_string(golden.seed) + " on " + edgetl::isa_name(isa));
        }
    }
}

TEST(every_instruction_set_gives_the_bits_of_the_portable_one) {
    check::Random random(11);
    for (int turn = 0; turn < 400; ++turn) {
        const Photo photo = small_photo(random);
        const Definition definition = check::random_definition(random, 90);
        const auto expected = check::run(photo.view(), definition, 1, Isa::kPortable);
        for (const Isa isa : check::machine_isas())
            for (const int threads : {1, 3})
                CHECK_EQUAL((check::run(photo.view(), definition, threads, isa) == expected), true,
                            check::describe(photo.height, photo.width, definition) + " on " +
                                edgetl::isa_name(isa));
    }
}

TEST(a_level_beyond_the_machine_falls_back) {
    check::Random random(12);
    const Photo photo = small_photo(random);
    const Definition definition = check::random_definition(random, 40);
    const auto expected = check::run(photo.view(), definition, 1, Isa::kPortable);
    for (const Isa isa : edgetl::kIsas)
        CHECK(check::run(photo.view(), definition, 1, isa) == expected);
}

TEST(rows_may_have_gaps_and_run_backwards) {
    check::Random random(13);
    for (int turn = 0; turn < 60; ++turn) {
        const Photo photo = small_photo(random);
        const Definition definition = check::random_definition(random, 60);
        const std::int64_t row = 3 * photo.width, stride = row + random.between(1, 40);
        // Exactly as long as it has to be: a sanitizer sees every read beyond it.
        std::vector<std::uint8_t> gaps((photo.height - 1) * stride + row);
        std::vector<std::uint8_t> backwards(gaps.size());
        for (std::int64_t y = 0; y < photo.height; ++y) {
            const auto* from = photo.bytes.data() + y * row;
            std::copy(from, from + row, gaps.begin() + y * stride);
            std::copy(from, from + row, backwards.begin() + (photo.height - 1 - y) * stride);
        }
        const std::uint8_t* last = backwards.data() + (photo.height - 1) * stride;
        for (const Isa isa : check::machine_isas()) {
            const auto expected = check::run(photo.view(), definition, 1, isa);
            const std::string context = check::describe(photo.height, photo.width, definition);
            const auto spaced = edgetl::whole_image(gaps.data(), photo.height, photo.width, stride);
            const auto upward = edgetl::whole_image(last, photo.height, photo.width, -stride);
            CHECK_EQUAL((check::run(spaced, definition, 2, isa) == expected), true, context);
            CHECK_EQUAL((check::run(upward, definition, 2, isa) == expected), true, context);
        }
    }
}

TEST(the_needed_part_is_enough) {
    check::Random random(14);
    for (int turn = 0; turn < 150; ++turn) {
        const Photo photo = small_photo(random);
        const Definition definition = check::random_definition(random, 60);
        const edgetl::Box box = edgetl::needed(photo.height, photo.width, definition);
        CHECK(box.top >= 0 && box.left >= 0 && box.height >= 1 && box.width >= 1);
        CHECK(box.top + box.height <= photo.height && box.left + box.width <= photo.width);
        std::vector<std::uint8_t> part;
        for (std::int64_t y = box.top; y < box.top + box.height; ++y) {
            const auto* from = photo.bytes.data() + 3 * (y * photo.width + box.left);
            part.insert(part.end(), from, from + 3 * box.width);
        }
        const edgetl::Image image{part.data(), photo.height, photo.width, 3 * box.width, box};
        for (const Isa isa : check::machine_isas())
            CHECK_EQUAL((check::run(image, definition, 1, isa) ==
                         check::run(photo.view(), definition, 1, isa)),
                        true, check::describe(photo.height, photo.width, definition));
    }
}

TEST(a_size_that_is_kept_copies_the_pixels) {
    check::Random random(15);
    for (const std::int64_t size : {1, 2, 15, 16, 17, 64}) {
        const Photo photo = check::random_photo(random, size, size, false);
        for (const Filter filter : {Filter::kBilinear, Filter::kBicubic}) {
            Definition definition = plain(size);
            definition.filter = filter;
            for (const Isa isa : check::machine_isas())
                CHECK(check::run(photo.view(), definition, 1, isa) == photo.bytes);
        }
    }
}

TEST(a_photo_of_one_colour_stays_it) {
    for (const std::int64_t height : {1, 7, 200})
        for (const std::int64_t width : {1, 9, 333}) {
            Photo photo{height, width, {}};
            for (std::int64_t i = 0; i < height * width; ++i)
                photo.bytes.insert(photo.bytes.end(), {255, 0, 130});
            for (const Isa isa : check::machine_isas()) {
                const auto out = check::run(photo.view(), plain(31), 1, isa);
                for (std::size_t i = 0; i < out.size(); i += 3)
                    CHECK(out[i] == 255 && out[i + 1] == 0 && out[i + 2] == 130);
            }
        }
}

TEST(sizes_out_of_range_are_refused) {
    // Nothing may be read, or made room for, before the refusal: the data is one byte long.
    const std::uint8_t byte = 0;
    std::vector<std::uint8_t> out(3 * 4 * 4 * 4);
    constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();
    constexpr std::int64_t kNegative = std::numeric_limits<std::int64_t>::min();
    const auto call = [&](std::int64_t height, std::int64_t width, const Definition& definition,
                          int threads) {
        edgetl::preprocess(edgetl::whole_image(&byte, height, width, 3 * std::int64_t{1 << 20}),
                           definition, out.data(), threads, edgetl::best_isa());
    };
    for (const std::int64_t side :
         {kNegative, std::int64_t{-1}, std::int64_t{0}, edgetl::kMaxSide + 1, kHuge}) {
        CHECK_THROWS(std::invalid_argument, call(side, 4, plain(4), 1));
        CHECK_THROWS(std::invalid_argument, call(4, side, plain(4), 1));
    }
    for (const std::int64_t size : {kNegative, std::int64_t{-1}, std::int64_t{0},
                                    std::int64_t{16385}, std::int64_t{1} << 40, kHuge})
        CHECK_THROWS(std::invalid_argument, call(4, 4, plain(size), 1));
    Definition crop = plain(4);
    crop.size = 5;
    CHECK_THROWS(std::invalid_argument, call(4, 4, crop, 1));
    for (const int threads : {0, -1, std::numeric_limits<int>::min()})
        CHECK_THROWS(std::invalid_argument, call(4, 4, plain(4), threads));
    CHECK_THROWS(std::invalid_argument,
                 edgetl::preprocess(edgetl::whole_image(nullptr, 4, 4, 12), plain(4), out.data(), 1,
                                    edgetl::best_isa()));
}

TEST(constants_that_are_no_numbers_are_refused) {
    check::Random random(16);
    const Photo photo = check::random_photo(random, 4, 4, false);
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
    for (int c = 0; c < 3; ++c) {
        for (const float mean : {kNan, kInfinity, -kInfinity}) {
            Definition definition = plain(4);
            definition.mean[c] = mean;
            CHECK_THROWS(std::invalid_argument,
                         check::run(photo.view(), definition, 1, edgetl::best_isa()));
        }
        for (const float std : {kNan, 0.0f, -0.0f, -1.0f, -kInfinity}) {
            Definition definition = plain(4);
            definition.std[c] = std;
            CHECK_THROWS(std::invalid_argument,
                         check::run(photo.view(), definition, 1, edgetl::best_isa()));
        }
    }
}

TEST(elongated_photos_cost_no_more_than_the_crop) {
    // The resized photo, which is never built, would have 17 billion pixels.
    check::Random random(17);
    for (const bool tall : {true, false}) {
        const Photo photo = tall ? check::random_photo(random, edgetl::kMaxSide, 1, false)
                                 : check::random_photo(random, 1, edgetl::kMaxSide, false);
        Definition definition = plain(8);
        definition.fit = Fit::kShortest;
        definition.resize = 16384;
        const auto expected = check::run(photo.view(), definition, 1, Isa::kPortable);
        for (const Isa isa : check::machine_isas())
            CHECK(check::run(photo.view(), definition, 4, isa) == expected);
    }
}
