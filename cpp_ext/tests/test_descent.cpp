// A rehearsal's descent: the same bits on every instruction set and processor, what it leaves alone
// and what it refuses. What it computes is checked in tests/native/test_descent.py.
#include <cstdint>
#include <limits>
#include <vector>

#include "check.h"
#include "edgetl/heads.h"
#include "random.h"

namespace {

using edgetl::Isa;
using edgetl::Status;

constexpr edgetl::DescentPlan kPlan{16, 10, 0.4, 0.9, 100, 0.04, 1e-4, 1e4};

std::vector<float> singles(check::Random& random, std::int64_t count, double size) {
    std::vector<float> found(static_cast<std::size_t>(count));
    for (float& value : found) value = static_cast<float>(size * (2 * random.unit() - 1));
    return found;
}

struct Rehearsal {
    std::int64_t n, dim, classes;
    std::vector<float> features, mean;
    std::vector<std::int64_t> codes;
    std::vector<double> weights;
    std::vector<std::vector<float>> state;
    double strength = 0;

    Rehearsal(std::uint64_t seed, std::int64_t samples, std::int64_t columns, std::int64_t outputs)
        : n(samples), dim(columns), classes(outputs) {
        check::Random random(seed);
        features = singles(random, n * dim, 3);
        mean.resize(static_cast<std::size_t>(dim));
        for (std::int64_t i = 0; i < n; ++i) {
            codes.push_back(i % classes);
            weights.push_back(0.25 + random.unit());
        }
        for (int pair = 0; pair < 3; ++pair) {
            state.push_back(singles(random, classes * dim, 0.1));
            state.push_back(singles(random, classes, 1));
        }
    }

    Status run(Isa isa) {
        // Of the exact size, for a sanitizer to see what is beyond.
        const auto room = edgetl::descent_scratch(n, dim, classes, kPlan.batch);
        std::vector<float> rows(static_cast<std::size_t>(room.singles));
        std::vector<double> sums(static_cast<std::size_t>(room.doubles));
        const edgetl::DescentState where{state[0].data(), state[1].data(), state[2].data(),
                                         state[3].data(), state[4].data(), state[5].data()};
        return edgetl::softmax_descent(features.data(), codes.data(), weights.data(), n, dim,
                                       classes, kPlan, where, mean.data(), rows.data(), sums.data(),
                                       &strength, isa);
    }

    std::uint64_t hash() const {
        std::uint64_t found = check::fnv1a(&strength, sizeof strength);
        found ^= check::fnv1a(mean.data(), mean.size() * sizeof(float));
        for (std::size_t i = 0; i < state.size(); ++i)
            found = found * 31 + check::fnv1a(state[i].data(), state[i].size() * sizeof(float));
        return found;
    }
};

}  // namespace

TEST(a_descent_has_the_same_bits_everywhere) {
    // The hashes are of x86's results: a device that learns goes on from another's to the bit.
    const struct {
        std::int64_t n, dim, classes;
        std::uint64_t hash;
    } cases[] = {{64, 128, 10, 0x67abe1b43da53afdu},
                 {33, 37, 5, 0xf36ff38d7f59d992u},
                 {2, 1, 2, 0x416c5d657800aef3u},
                 {17, 257, 3, 0x234260889522624du},
                 {5, 16, 1, 0x97e4caa1a7233d8du}};
    for (const auto& expected : cases)
        for (const Isa isa : edgetl::kIsas) {
            if (!edgetl::has_isa(isa)) continue;
            Rehearsal rehearsal(7, expected.n, expected.dim, expected.classes);
            CHECK(rehearsal.run(isa) == Status::kOk);
            CHECK_EQUAL(rehearsal.hash(), expected.hash, edgetl::isa_name(isa));
        }
}

TEST(a_descent_refuses_what_float32_has_no_digits_for) {
    for (const Isa isa : edgetl::kIsas) {
        if (!edgetl::has_isa(isa)) continue;
        Rehearsal one(1, 1, 20, 3), nothing(1, 0, 20, 3), alike(1, 9, 20, 3);
        for (std::size_t i = 0; i < alike.features.size(); ++i) alike.features[i] = 1.25f;
        for (Rehearsal* odd : {&one, &nothing, &alike}) {
            const auto before = odd->state;
            CHECK(odd->run(isa) == Status::kRefused);
            CHECK(odd->state == before);
        }
    }
}

TEST(a_descent_says_what_is_not_finite) {
    for (const Isa isa : edgetl::kIsas) {
        if (!edgetl::has_isa(isa)) continue;
        for (std::size_t place = 0; place < 6; ++place) {
            Rehearsal rehearsal(2, 20, 21, 3);
            rehearsal.state[place].back() = std::numeric_limits<float>::infinity();
            CHECK(rehearsal.run(isa) == Status::kNotFinite);
        }
        Rehearsal rehearsal(2, 20, 21, 3);
        rehearsal.features.back() = std::numeric_limits<float>::quiet_NaN();
        CHECK(rehearsal.run(isa) != Status::kOk);
        rehearsal = Rehearsal(2, 20, 21, 3);
        rehearsal.weights.back() = std::numeric_limits<double>::infinity();
        CHECK(rehearsal.run(isa) == Status::kNotFinite);
    }
}
