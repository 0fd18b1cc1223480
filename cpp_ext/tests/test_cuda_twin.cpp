// The GPU's kernels as the host runs them: against the CPU's kernels and plain loops, with buffers
// of exactly the stated sizes, so that the sanitizers see what a kernel reads and writes beyond.
#if !defined(_WIN32)
#include <sys/mman.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "check.h"
#include "edgetl/cuda_features.h"
#include "edgetl/cuda_neighbours.h"
#include "edgetl/cuda_preprocess.h"
#include "photos.h"
#include "random.h"

namespace {

using namespace edgetl::gpu;

const Queue kQueue{0, 0};

Number number_of(edgetl::Dtype dtype) {
    switch (dtype) {
        case edgetl::Dtype::kFloat32:
            return Number::kFloat32;
        case edgetl::Dtype::kFloat16:
            return Number::kFloat16;
        case edgetl::Dtype::kBfloat16:
            return Number::kBfloat16;
        case edgetl::Dtype::kUint8:
            break;
    }
    return Number::kUint8;
}

// Photos behind one another as they come, at odd offsets, packed or plane by plane.
struct Packed {
    std::vector<check::Photo> photos;
    std::vector<edgetl::gpu::Photo> table;
    std::vector<std::uint8_t> bytes;

    void add(check::Photo photo, bool planes, std::int64_t gap,
             const edgetl::Definition& definition) {
        edgetl::gpu::Photo row{};
        row.offset = static_cast<std::int64_t>(bytes.size());
        row.height = photo.height;
        row.width = photo.width;
        row.stride = (planes ? 1 : 3) * photo.width + gap;
        row.plane = planes ? photo.height * row.stride : 0;
        place(row, definition);
        const std::int64_t line = (planes ? 1 : 3) * photo.width;
        bytes.resize(bytes.size() + (planes ? 2 * row.plane : 0) + (photo.height - 1) * row.stride +
                     line);
        for (std::int64_t y = 0; y < photo.height; ++y)
            for (std::int64_t x = 0; x < photo.width; ++x)
                for (int c = 0; c < 3; ++c)
                    bytes[row.offset + y * row.stride + (planes ? c * row.plane + x : 3 * x + c)] =
                        photo.bytes[3 * (y * photo.width + x) + c];
        table.push_back(row);
        photos.push_back(std::move(photo));
    }
};

std::vector<float> random_floats(check::Random& random, std::int64_t count) {
    std::vector<float> result;
    while (static_cast<std::int64_t>(result.size()) < count)
        result.push_back(static_cast<float>(2 * random.unit() - 1));
    return result;
}

}  // namespace

TEST(batches_have_the_bits_of_the_cpu) {
    check::Random random(31);
    int compared = 0;
    for (int turn = 0; turn < 60; ++turn) {
        const edgetl::Definition definition = check::random_definition(random, 70);
        Packed packed;
        const std::int64_t n = random.between(1, 4);
        while (static_cast<std::int64_t>(packed.table.size()) < n)
            packed.add(check::random_photo(random, random.between(1, 120), random.between(1, 120),
                                           random.coin()),
                       random.coin(), random.coin() ? random.between(1, 9) : 0, definition);
        Plan plan{};
        try {
            plan = plan_preprocess(packed.table.data(), n, definition, shared_limit(0));
        } catch (const std::invalid_argument&) {
            continue;  // shrinks too much, and is left to the CPU
        }
        const auto size = static_cast<std::size_t>(edgetl::output_bytes(definition));
        std::vector<std::uint8_t> out(n * size), workspace(plan.workspace);
        const Batch batch{packed.bytes.data(), static_cast<std::int64_t>(packed.bytes.size()),
                          packed.table.data(), n, workspace.data()};
        edgetl::gpu::preprocess(batch, definition, plan, number_of(definition.dtype), out.data(),
                                kQueue);
        ++compared;
        for (std::int64_t i = 0; i < n; ++i) {
            const check::Photo& photo = packed.photos[i];
            const auto expected = check::run(photo.view(), definition, 1, edgetl::Isa::kPortable);
            CHECK_EQUAL(std::memcmp(out.data() + i * size, expected.data(), size), 0,
                        check::describe(photo.height, photo.width, definition));
        }
    }
    CHECK(compared >= 30);
}

#if !defined(_WIN32)
// Decoded photos lie apart in a GPU's memory, and what is between them may not be there at all.
TEST(nothing_is_read_between_photos) {
    const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    void* mapped =
        mmap(nullptr, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(mapped != MAP_FAILED);
    auto* bytes = static_cast<std::uint8_t*>(mapped);
    CHECK_EQUAL(mprotect(bytes + 2 * page, page, PROT_NONE), 0, "mprotect");
    check::Random random(34);
    edgetl::Definition definition = check::random_definition(random, 20);
    definition.size = definition.resize = 20;
    definition.fit = edgetl::Fit::kSquash;
    const auto size = static_cast<std::size_t>(edgetl::output_bytes(definition));
    for (const bool planes : {false, true})
        for (std::int64_t width = 17; width < 34; ++width) {
            // One ends where nothing follows, the other begins behind the gap.
            const std::int64_t height = 35, line = (planes ? 1 : 3) * width;
            std::vector<edgetl::gpu::Photo> table(2);
            std::vector<check::Photo> photos;
            for (int number = 0; number < 2; ++number) {
                edgetl::gpu::Photo& row = table[number];
                row.offset = static_cast<std::int64_t>(number == 0 ? 2 * page : 3 * page);
                row.offset -= number == 0 ? 3 * width * height : 0;
                row.height = height;
                row.width = width;
                row.stride = line;
                row.plane = planes ? height * line : 0;
                place(row, definition);
                photos.push_back(check::random_photo(random, height, width, false));
                for (std::int64_t i = 0; i < 3 * height * width; ++i) {
                    const std::int64_t c = i % 3, x = i / 3;
                    bytes[row.offset + (planes ? c * row.plane + x : i)] = photos.back().bytes[i];
                }
            }
            const Plan plan = plan_preprocess(table.data(), 2, definition, shared_limit(0));
            std::vector<std::uint8_t> out(2 * size), workspace(plan.workspace);
            const Batch batch{bytes, static_cast<std::int64_t>(4 * page), table.data(), 2,
                              workspace.data()};
            edgetl::gpu::preprocess(batch, definition, plan, number_of(definition.dtype),
                                    out.data(), kQueue);
            for (int number = 0; number < 2; ++number) {
                const auto expected =
                    check::run(photos[number].view(), definition, 1, edgetl::Isa::kPortable);
                CHECK_EQUAL(std::memcmp(out.data() + number * size, expected.data(), size), 0,
                            check::describe(height, width, definition));
            }
        }
    munmap(mapped, 4 * page);
}
#endif

TEST(pooling_is_the_mean_over_the_positions) {
    check::Random random(32);
    for (const std::int64_t channels : {1, 7, 64, 333})
        for (const std::int64_t positions : {1, 9, 49})
            for (const bool last : {true, false})
                for (const bool unit : {true, false}) {
                    const std::vector<float> maps = random_floats(random, 3 * channels * positions);
                    std::vector<float> out(3 * channels);
                    edgetl::gpu::pool({maps.data(), 3, channels, positions, last, Number::kFloat32},
                                      unit, Number::kFloat32, out.data(), kQueue);
                    for (std::int64_t row = 0; row < 3; ++row) {
                        std::vector<double> expected(channels);
                        double squares = 0;
                        for (std::int64_t c = 0; c < channels; ++c) {
                            for (std::int64_t p = 0; p < positions; ++p)
                                expected[c] += maps[row * channels * positions +
                                                    (last ? p * channels + c : c * positions + p)];
                            expected[c] /= static_cast<double>(positions);
                            squares += expected[c] * expected[c];
                        }
                        for (std::int64_t c = 0; c < channels; ++c) {
                            const double wanted = expected[c] / (unit ? std::sqrt(squares) : 1);
                            CHECK(std::abs(out[row * channels + c] - wanted) < 1e-4);
                        }
                    }
                }
}

TEST(neighbours_are_the_rows_with_the_largest_products) {
    check::Random random(33);
    for (const std::int64_t rows : {1, 5, 100, 1000})
        for (const std::int64_t dim : {1, 8, 33})
            for (const std::int64_t k : {1, 3, 64}) {
                if (k > rows) continue;
                constexpr std::int64_t kQueries = 19;
                const std::vector<float> queries = random_floats(random, kQueries * dim);
                const std::vector<float> memory = random_floats(random, rows * dim);
                const Search search{queries.data(),   kQueries, memory.data(), rows, dim,
                                    Number::kFloat32, k};
                std::vector<std::uint8_t> workspace(nearest_workspace(search));
                std::vector<std::int64_t> indices(kQueries * k);
                std::vector<float> similarities(kQueries * k);
                edgetl::gpu::nearest(search, workspace.data(), indices.data(), similarities.data(),
                                     kQueue);
                for (std::int64_t q = 0; q < kQueries; ++q) {
                    std::vector<double> products(rows);
                    for (std::int64_t r = 0; r < rows; ++r)
                        for (std::int64_t i = 0; i < dim; ++i)
                            products[r] +=
                                static_cast<double>(queries[q * dim + i]) * memory[r * dim + i];
                    std::vector<double> best = products;
                    std::sort(best.rbegin(), best.rend());
                    for (std::int64_t i = 0; i < k; ++i) {
                        const std::int64_t found = indices[q * k + i];
                        CHECK(found >= 0 && found < rows);
                        CHECK(std::abs(products[found] - similarities[q * k + i]) < 1e-4);
                        CHECK(std::abs(best[i] - similarities[q * k + i]) < 1e-4);
                    }
                }
            }
}
