// The loops that all vector instruction sets share, over the primitives of one of them.
//
// Included once by each instruction set's file, which first defines EDGETL_LOOP as the attribute
// that switches its instructions on: in an unnamed namespace, so that every file has loops of its
// own. `Simd` is that file's struct of primitives. Its vectors hold kLanes = 16 columns, in as many
// registers as that takes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels.h"

namespace edgetl {
namespace {

constexpr int kLanes = 16;
// Outputs that the loop over columns makes at once.
constexpr int kColumnStep = 4;

// The bits of 16-bit floats, as types of their own for overloads to tell apart.
struct Float16 {
    std::uint16_t bits;
};
struct Bfloat16 {
    std::uint16_t bits;
};

// Members are copied to locals here and below: stores through vector or byte pointers could change
// anything that the compiler can't see to be local. kCells is the number of cells where it is known
// at compile time, else 0.
template <class Simd, int kCells>
EDGETL_LOOP void each_column(const Rows rows, const std::int64_t* const offsets,
                             const std::int32_t* words, const std::int64_t count,
                             const std::int64_t cells, const std::int64_t pitch,
                             std::uint8_t* const* groups) {
    constexpr int kRowsAtOnce = Simd::kRows * Simd::kBatch;
    const std::int64_t n = kCells != 0 ? kCells : cells;
    std::uint8_t* to[Simd::kBatch];
    std::copy(groups, groups + Simd::kBatch, to);
    for (std::int64_t i = 0; i < count; i += kColumnStep) {
        typename Simd::Column sums[Simd::kBatch][kColumnStep];
        for (int r = kRowsAtOnce; r < 2 * kRowsAtOnce; ++r)
            prefetch(rows.data + offsets[i], r * rows.stride);
        for (int k = 0; k < kColumnStep; ++k) {
            typename Simd::Column column[Simd::kBatch];
            Simd::template column<kCells>({rows.data + offsets[i + k], rows.stride}, words, n,
                                          column);
            for (int b = 0; b < Simd::kBatch; ++b) sums[b][k] = column[b];
            words += Simd::kColumnWords * n;
        }
        for (int b = 0; b < Simd::kBatch; ++b) Simd::store_columns(sums[b], to[b], i, pitch);
    }
}

template <class Simd>
void run_columns(const Rows& rows, const Columns& columns, std::int64_t pitch,
                 std::uint8_t* const* groups) {
    const auto run = [&](auto loop) {
        loop(rows, columns.offsets.data(), columns.words.data(),
             static_cast<std::int64_t>(columns.offsets.size()), columns.cells, pitch, groups);
    };
    switch (columns.cells) {
        case 1:
            return run(each_column<Simd, 1>);
        case 2:
            return run(each_column<Simd, 2>);
        case 3:
            return run(each_column<Simd, 3>);
        case 4:
            return run(each_column<Simd, 4>);
        default:
            return run(each_column<Simd, 0>);
    }
}

// A window of groups with its weights in registers, where it is small.
template <class Simd, int kGroups>
struct Down {
    const std::uint8_t* groups[kGroups];
    typename Simd::Weights weights[kGroups];

    EDGETL_LOOP Down(const std::uint8_t* const* data, const Vertical& task) {
        for (int g = 0; g < kGroups; ++g) {
            groups[g] = data[g];
            weights[g] = Simd::weights(task.words + Simd::kWords * g);
        }
    }

    // Sums of kLanes columns from `i` on, not clipped.
    EDGETL_LOOP typename Simd::Ints value(std::int64_t i) const {
        typename Simd::Sum sum = Simd::begin();
        for (int g = 0; g < kGroups; ++g)
            Simd::add(sum, Simd::load(groups[g] + Simd::kCellBytes * i), weights[g]);
        return Simd::join(sum);
    }
};

// A window of any size.
template <class Simd>
struct Down<Simd, 0> {
    const std::uint8_t* const* groups;
    const std::int32_t* words;
    std::int64_t count;

    Down(const std::uint8_t* const* data, const Vertical& task)
        : groups(data), words(task.words), count(task.groups) {}

    EDGETL_LOOP typename Simd::Ints value(std::int64_t i) const {
        typename Simd::Sum sum = Simd::begin();
        for (std::int64_t g = 0; g < count; ++g)
            Simd::add(sum, Simd::load(groups[g] + Simd::kCellBytes * i),
                      Simd::weights(words + Simd::kWords * g));
        return Simd::join(sum);
    }
};

// Stores one vector, or its first n elements.
template <class Simd, class Out, class Values>
EDGETL_LOOP inline void store_some(Out* out, const Values& values, std::int64_t n) {
    if (n >= kLanes) return Simd::store(out, values);
    alignas(64) Out rest[kLanes];
    Simd::store(rest, values);
    std::copy(rest, rest + n, out);
}

// Looks up what can't be computed exactly.
template <class Simd, class Out>
EDGETL_LOOP void store_looked_up(Out* out, const typename Simd::Ints& sums, const Normal& normal,
                                 int channel, bool alternate, std::int64_t n) {
    alignas(64) std::uint8_t bytes[kLanes];
    alignas(64) float values[kLanes];
    Simd::store(bytes, sums);
    look_up(bytes, kLanes, normal, channel, alternate, values);
    store_some<Simd>(out, Simd::load_floats(values), n);
}

// One plane, or all pixels with their channels in turn: columns from `first` on.
template <class Simd, bool kAlternate, class Sums, class Out>
EDGETL_LOOP void normalised(const Sums& down, const Normal& normal, int channel,
                            const std::int64_t first, const std::int64_t count, Out* const out) {
    const bool exact = normal.exact;
    typename Simd::Scale scale = Simd::scale(normal, channel, kAlternate);
    for (std::int64_t i = 0; i < count; i += kLanes) {
        const typename Simd::Ints sums = down.value(first + i);
        if (kAlternate) scale = Simd::scale(normal, channel, true);
        if (exact)
            store_some<Simd>(out + i, Simd::normalise(sums, scale), count - i);
        else
            store_looked_up<Simd>(out + i, sums, normal, channel, kAlternate, count - i);
        if (kAlternate) channel = channel == 2 ? 0 : channel + 1;  // 16 lanes are 1 modulo 3
    }
}

template <class Simd, class Sums, class Out>
EDGETL_LOOP void normalised_row(const Sums& down, const Vertical& task, Out* out) {
    if (task.pitch == 0) return normalised<Simd, true>(down, *task.normal, 0, 0, task.count, out);
    for (int c = 0; c < 3; ++c)
        normalised<Simd, false>(down, *task.normal, c, c * task.pitch, task.count,
                                out + c * task.step);
}

template <class Simd, class Sums>
EDGETL_LOOP void byte_row(const Sums& down, const Vertical& task, std::uint8_t* out) {
    const std::int64_t count = task.count, planes = task.pitch == 0 ? 1 : 3;
    for (std::int64_t c = 0; c < planes; ++c)
        for (std::int64_t i = 0; i < count; i += kLanes)
            store_some<Simd>(out + c * task.step + i, down.value(c * task.pitch + i), count - i);
}

template <class Simd, int kGroups>
EDGETL_LOOP void row(const std::uint8_t* const* groups, const Vertical& task, void* out) {
    const Down<Simd, kGroups> down(groups, task);
    switch (task.dtype) {
        case Dtype::kFloat32:
            return normalised_row<Simd>(down, task, static_cast<float*>(out));
        case Dtype::kFloat16:
            return normalised_row<Simd>(down, task, static_cast<Float16*>(out));
        case Dtype::kBfloat16:
            return normalised_row<Simd>(down, task, static_cast<Bfloat16*>(out));
        case Dtype::kUint8:
            return byte_row<Simd>(down, task, static_cast<std::uint8_t*>(out));
    }
}

template <class Simd>
void vertical(const std::uint8_t* const* groups, const Vertical& task, void* out) {
    switch (task.groups) {
        case 1:
            return row<Simd, 1>(groups, task, out);
        case 2:
            return row<Simd, 2>(groups, task, out);
        case 3:
            return row<Simd, 3>(groups, task, out);
        case 4:
            return row<Simd, 4>(groups, task, out);
        default:
            return row<Simd, 0>(groups, task, out);
    }
}

// One block of a window's rows, Simd::kBlock bytes wide.
template <class Simd>
EDGETL_LOOP void reduce_block(const Window& window, std::uint8_t* out) {
    constexpr int kVectors = Simd::kBlock / kLanes;
    typename Simd::Sum sums[kVectors];
    for (auto& sum : sums) sum = Simd::begin();
    const std::int32_t* words = window.words;
    for (std::int64_t r = 0; r < window.rows; r += Simd::kRows, words += Simd::kWords) {
        typename Simd::Cells cells[kVectors];
        Simd::interleave(window.data + r * window.stride, window.stride,
                         std::min<std::int64_t>(Simd::kRows, window.rows - r), cells);
        const typename Simd::Weights weights = Simd::weights(words);
        for (int v = 0; v < kVectors; ++v) Simd::add(sums[v], cells[v], weights);
    }
    typename Simd::Ints joined[kVectors];
    for (int v = 0; v < kVectors; ++v) joined[v] = Simd::join(sums[v]);
    Simd::store_block(out, joined);
}

template <class Simd>
EDGETL_LOOP void reduce(const Window& window, std::int64_t count, std::uint8_t* out) {
    constexpr int kBlock = Simd::kBlock;
    const auto at = [&](std::int64_t i) {
        return Window{window.data + i, window.stride, window.words, window.rows};
    };
    for (std::int64_t i = 0; i + kBlock <= count; i += kBlock) reduce_block<Simd>(at(i), out + i);
    if (count % kBlock == 0) return;
    if (count > kBlock)  // the end once more
        return reduce_block<Simd>(at(count - kBlock), out + count - kBlock);
    // Rows shorter than a block: copied to where a whole one may be read.
    std::vector<std::uint8_t> rows(kBlock * (window.rows + 1));
    for (std::int64_t r = 0; r < window.rows; ++r) {
        const std::uint8_t* row = window.data + r * window.stride;
        std::copy(row, row + count, rows.data() + r * kBlock);
    }
    std::uint8_t* last = rows.data() + window.rows * kBlock;
    reduce_block<Simd>({rows.data(), kBlock, window.words, window.rows}, last);
    std::copy(last, last + count, out);
}

}  // namespace
}  // namespace edgetl
