// Sixteen floats side by side, for dot products where memory is what limits: many rows, few
// queries; and for steps of descent on coefficients that are kept in float32.
//
// Sums of up to kRun products per lane are float32, and are then added up in double: a dot product
// is within 2^-19 of the sum of its products' sizes, and the same to the bit on every instruction
// set.
#pragma once

#include <cstdint>
#include <cstring>

#include "lanes.h"

namespace edgetl {

constexpr std::int64_t kSingles = 16;
constexpr std::int64_t kRun = 16;

template <int kCount, int kWidth>
struct Singles {
    Singles<kCount / 2, kWidth> low, high;

    EDGETL_INLINE void zero() {
        low.zero();
        high.zero();
    }
    EDGETL_INLINE void load(const float* from) {
        low.load(from);
        high.load(from + kCount / 2);
    }
    EDGETL_INLINE void store(float* to) const {
        low.store(to);
        high.store(to + kCount / 2);
    }
    EDGETL_INLINE void add_product(const Singles& a, const Singles& b) {
        low.add_product(a.low, b.low);
        high.add_product(a.high, b.high);
    }
    EDGETL_INLINE void add_product(const Singles& a, float b) {
        low.add_product(a.low, b);
        high.add_product(a.high, b);
    }
    EDGETL_INLINE void subtract(const Singles& other) {
        low.subtract(other.low);
        high.subtract(other.high);
    }
};

#if defined(__GNUC__) || defined(__clang__)
template <int kWidth>
struct FloatVector;
template <>
struct FloatVector<4> {
    typedef float Type __attribute__((vector_size(16)));
};
template <>
struct FloatVector<8> {
    typedef float Type __attribute__((vector_size(32)));
};
template <>
struct FloatVector<16> {
    typedef float Type __attribute__((vector_size(64)));
};

template <int kWidth>
struct Singles<kWidth, kWidth> {
    typename FloatVector<kWidth>::Type value;

    EDGETL_INLINE void zero() { value = typename FloatVector<kWidth>::Type{}; }
    EDGETL_INLINE void load(const float* from) { std::memcpy(&value, from, sizeof value); }
    EDGETL_INLINE void store(float* to) const { std::memcpy(to, &value, sizeof value); }
    EDGETL_INLINE void add_product(const Singles& a, const Singles& b) {
        value += a.value * b.value;
    }
    EDGETL_INLINE void add_product(const Singles& a, float b) { value += a.value * b; }
    EDGETL_INLINE void subtract(const Singles& other) { value -= other.value; }
};
#else
template <int kWidth>
struct Singles<kWidth, kWidth> {
    float value[kWidth];

    void zero() {
        for (float& v : value) v = 0;
    }
    void load(const float* from) { std::memcpy(value, from, sizeof value); }
    void store(float* to) const { std::memcpy(to, value, sizeof value); }
    void add_product(const Singles& a, const Singles& b) {
        for (int i = 0; i < kWidth; ++i) value[i] += a.value[i] * b.value[i];
    }
    void add_product(const Singles& a, float b) {
        for (int i = 0; i < kWidth; ++i) value[i] += a.value[i] * b;
    }
    void subtract(const Singles& other) {
        for (int i = 0; i < kWidth; ++i) value[i] -= other.value[i];
    }
};
#endif

// Sixteen lanes of floats onto eight of doubles.
template <int kWidth>
EDGETL_INLINE void add_singles(const Singles<16, 2 * kWidth>& sums, Eight<kWidth>& total) {
    float lanes[kSingles];
    sums.store(lanes);
    Eight<kWidth> half;
    half.load(lanes);
    total.add(half);
    half.load(lanes + kLanes);
    total.add(half);
}

// Dot products of `a` with kRows rows of `b`, `count` apart.
template <int kWidth, int kRows>
EDGETL_INLINE void single_dots(const float* a, const float* b, std::int64_t count, double* out) {
    static_assert(kRows == 1 || kRows == 2 || kRows == 4, "rows are named below");
    Eight<kWidth> t0, t1, t2, t3;
    t0.zero();
    t1.zero();
    t2.zero();
    t3.zero();
    std::int64_t i = 0;
    while (i + kSingles <= count) {
        const std::int64_t left = (count - i) / kSingles;
        const std::int64_t stop = i + (left < kRun ? left : kRun) * kSingles;
        Singles<16, 2 * kWidth> s0, s1, s2, s3, x, y;
        s0.zero();
        s1.zero();
        s2.zero();
        s3.zero();
        for (; i < stop; i += kSingles) {
            x.load(a + i);
            y.load(b + i);
            s0.add_product(x, y);
            if constexpr (kRows >= 2) {
                y.load(b + count + i);
                s1.add_product(x, y);
            }
            if constexpr (kRows == 4) {
                y.load(b + 2 * count + i);
                s2.add_product(x, y);
                y.load(b + 3 * count + i);
                s3.add_product(x, y);
            }
        }
        add_singles<kWidth>(s0, t0);
        if constexpr (kRows >= 2) add_singles<kWidth>(s1, t1);
        if constexpr (kRows == 4) add_singles<kWidth>(s2, t2);
        if constexpr (kRows == 4) add_singles<kWidth>(s3, t3);
    }
    double lanes[4][kLanes];
    t0.store(lanes[0]);
    t1.store(lanes[1]);
    t2.store(lanes[2]);
    t3.store(lanes[3]);
    for (std::int64_t row = 0; row < kRows; ++row) {
        for (std::int64_t left = i; left < count; ++left)
            lanes[row][(left - i) % kLanes] +=
                static_cast<double>(a[left]) * static_cast<double>(b[row * count + left]);
        out[row] = sum_lanes(lanes[row]);
    }
}

}  // namespace edgetl
