// Eight doubles side by side, in vectors of two, four or eight, and what the head kernels do with
// them: sums of products and exponentials.
//
// Whatever the width, the eight lanes are summed in the same order, so results don't depend on it.
// Vectors are never passed or returned by value: that would depend on the instruction set.
#pragma once

#include <cstdint>
#include <cstring>

#include "dispatch.h"

namespace edgetl {

constexpr std::int64_t kLanes = 8;

#if defined(__GNUC__) || defined(__clang__)
template <int kWidth>
struct Vectors;
template <>
struct Vectors<2> {
    typedef float Singles __attribute__((vector_size(8)));
    typedef double Doubles __attribute__((vector_size(16)));
    typedef std::int64_t Integers __attribute__((vector_size(16)));
};
template <>
struct Vectors<4> {
    typedef float Singles __attribute__((vector_size(16)));
    typedef double Doubles __attribute__((vector_size(32)));
    typedef std::int64_t Integers __attribute__((vector_size(32)));
};
template <>
struct Vectors<8> {
    typedef float Singles __attribute__((vector_size(32)));
    typedef double Doubles __attribute__((vector_size(64)));
    typedef std::int64_t Integers __attribute__((vector_size(64)));
};
#endif

// `kCount` doubles in vectors of `kWidth`: halves down to one vector.
template <int kCount, int kWidth>
struct Lanes {
    Lanes<kCount / 2, kWidth> low, high;

    EDGETL_INLINE void zero() {
        low.zero();
        high.zero();
    }
    template <typename T>
    EDGETL_INLINE void load(const T* from) {
        low.load(from);
        high.load(from + kCount / 2);
    }
    EDGETL_INLINE void store(double* to) const {
        low.store(to);
        high.store(to + kCount / 2);
    }
    EDGETL_INLINE void add(const Lanes& other) {
        low.add(other.low);
        high.add(other.high);
    }
    EDGETL_INLINE void subtract(const Lanes& other) {
        low.subtract(other.low);
        high.subtract(other.high);
    }
    EDGETL_INLINE void add_product(const Lanes& a, const Lanes& b) {
        low.add_product(a.low, b.low);
        high.add_product(a.high, b.high);
    }
    EDGETL_INLINE void add_product(const Lanes& a, double b) {
        low.add_product(a.low, b);
        high.add_product(a.high, b);
    }
};

#if defined(__GNUC__) || defined(__clang__)
template <int kWidth>
struct Lanes<kWidth, kWidth> {
    typename Vectors<kWidth>::Doubles value;

    EDGETL_INLINE void zero() { value = typename Vectors<kWidth>::Doubles{}; }
    EDGETL_INLINE void load(const double* from) { std::memcpy(&value, from, sizeof value); }
    EDGETL_INLINE void load(const float* from) {
#if defined(EDGETL_X86) && !defined(__clang__)
        if constexpr (kWidth == 8) {  // GCC would convert halves and put them together
            asm("vcvtps2pd %1, %0"
                : "=v"(value)
                : "m"(*reinterpret_cast<const char (*)[32]>(from)));
            return;
        }
#endif
        typename Vectors<kWidth>::Singles narrow;
        std::memcpy(&narrow, from, sizeof narrow);
        value = __builtin_convertvector(narrow, typename Vectors<kWidth>::Doubles);
    }
    EDGETL_INLINE void store(double* to) const { std::memcpy(to, &value, sizeof value); }
    EDGETL_INLINE void add(const Lanes& other) { value += other.value; }
    EDGETL_INLINE void subtract(const Lanes& other) { value -= other.value; }
    EDGETL_INLINE void add_product(const Lanes& a, const Lanes& b) { value += a.value * b.value; }
    EDGETL_INLINE void add_product(const Lanes& a, double b) { value += a.value * b; }
};
#else
template <int kWidth>
struct Lanes<kWidth, kWidth> {
    double value[kWidth];

    void zero() {
        for (double& v : value) v = 0;
    }
    template <typename T>
    void load(const T* from) {
        for (int i = 0; i < kWidth; ++i) value[i] = static_cast<double>(from[i]);
    }
    void store(double* to) const { std::memcpy(to, value, sizeof value); }
    void add(const Lanes& other) {
        for (int i = 0; i < kWidth; ++i) value[i] += other.value[i];
    }
    void subtract(const Lanes& other) {
        for (int i = 0; i < kWidth; ++i) value[i] -= other.value[i];
    }
    void add_product(const Lanes& a, const Lanes& b) {
        for (int i = 0; i < kWidth; ++i) value[i] += a.value[i] * b.value[i];
    }
    void add_product(const Lanes& a, double b) {
        for (int i = 0; i < kWidth; ++i) value[i] += a.value[i] * b;
    }
};
#endif

template <int kWidth>
using Eight = Lanes<8, kWidth>;

EDGETL_INLINE double sum_lanes(const double* lanes) {
    const double a = lanes[0] + lanes[4], b = lanes[1] + lanes[5];
    const double c = lanes[2] + lanes[6], d = lanes[3] + lanes[7];
    return (a + c) + (b + d);
}

// Dot products of `a` with kRows rows of `b`, `stride` apart.
template <int kWidth, int kRows, typename A, typename B>
EDGETL_INLINE void dots(const A* a, const B* b, std::int64_t stride, std::int64_t count,
                        double* out) {
    static_assert(kRows == 1 || kRows == 2 || kRows == 4, "rows are named below");
    Eight<kWidth> s0, s1, s2, s3;
    s0.zero();
    s1.zero();
    s2.zero();
    s3.zero();
    std::int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) {
        Eight<kWidth> x, y;
        x.load(a + i);
        y.load(b + i);
        s0.add_product(x, y);
        if constexpr (kRows >= 2) {
            y.load(b + stride + i);
            s1.add_product(x, y);
        }
        if constexpr (kRows == 4) {
            y.load(b + 2 * stride + i);
            s2.add_product(x, y);
            y.load(b + 3 * stride + i);
            s3.add_product(x, y);
        }
    }
    double lanes[4][kLanes];
    s0.store(lanes[0]);
    s1.store(lanes[1]);
    s2.store(lanes[2]);
    s3.store(lanes[3]);
    for (std::int64_t row = 0; row < kRows; ++row) {
        for (std::int64_t left = i; left < count; ++left)
            lanes[row][left - i] +=
                static_cast<double>(a[left]) * static_cast<double>(b[row * stride + left]);
        out[row] = sum_lanes(lanes[row]);
    }
}

// Sixteen registers of two doubles hold the sums of two rows, not of four.
template <int kWidth>
constexpr int kBlock = kWidth == 2 ? 2 : 4;

// Dot products of `a` with all rows of `b`; one result does not depend on how many there are.
template <int kWidth, typename A, typename B>
EDGETL_INLINE void all_dots(const A* a, const B* b, std::int64_t rows, std::int64_t count,
                            double* out) {
    constexpr int block = kBlock<kWidth>;
    std::int64_t row = 0;
    for (; row + block <= rows; row += block)
        dots<kWidth, block>(a, b + row * count, count, count, out + row);
    for (; row < rows; ++row) dots<kWidth, 1>(a, b + row * count, count, count, out + row);
}

}  // namespace edgetl
