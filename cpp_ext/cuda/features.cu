// Global average pooling with L2 normalisation; see edgetl/cuda_features.h.
//
// Compiled by nvcc for the GPU, and as plain C++ for the host twin. A block makes one sample's
// features. With channels last, a thread sums a few neighbouring channels, reading 16 bytes at a
// time where it can; otherwise pieces of the map go through shared memory, so that reads are of
// neighbouring addresses too. Lengths are summed by halves.
#include <stdexcept>
#include <string>

#include "edgetl/cuda_features.h"
#include "launch.h"
#include "numbers.h"

namespace edgetl::gpu {
namespace {

struct PoolArgs {
    Maps maps;
    bool unit;
    Number number;
    void* out;
    std::int32_t wide;    // channels a thread reads at once, with channels last
    std::int32_t piece;   // elements of a piece, otherwise
    std::int32_t pieces;  // of one sample
};

struct PoolBody {
    using Args = PoolArgs;
    struct State {};
    static constexpr int kThreads = 256;
    static constexpr int kBlocks = 3;
    static constexpr int kHalvings = 8;
    // An odd distance between channels keeps threads out of each other's banks.
    static constexpr std::int32_t kPiece = 6144;

    // The last steps: squares, their sums by halves, and the result.
    EDGETL_SHARED static int begin(const Args& args, int, State&) {
        return (args.maps.channels_last ? 1 : 1 + 2 * args.pieces) + 1 + kHalvings + 1;
    }

    EDGETL_SHARED static void step(const Args& args, int block, int thread, int step, State&,
                                   unsigned char* shared) {
        auto* sums = reinterpret_cast<float*>(shared);  // (channels)
        float* squares = sums + args.maps.channels;     // (kThreads)
        float* piece = squares + kThreads;              // (args.piece)
        const int before = args.maps.channels_last ? 1 : 1 + 2 * args.pieces;
        const auto channels = static_cast<std::int32_t>(args.maps.channels);
        const std::int64_t first = block * args.maps.channels * args.maps.positions;
        if (step < before) {
            if (args.maps.channels_last)
                sum_last(args, first, thread, sums);
            else if (step == 0)
                for (std::int32_t c = thread; c < channels; c += kThreads) sums[c] = 0.0f;
            else if (step % 2 == 1)
                load_piece(args, first, thread, step / 2, piece);
            else
                sum_piece(args, thread, step / 2 - 1, piece, sums);
        } else if (step == before) {
            float square = 0.0f;
            const auto count = static_cast<float>(args.maps.positions);
            for (std::int32_t c = thread; c < channels; c += kThreads) {
                const float mean = sums[c] / count;
                sums[c] = mean;
                square = fmaf(mean, mean, square);
            }
            squares[thread] = square;
        } else if (step <= before + kHalvings) {
            const int half = kThreads >> (step - before);
            if (thread < half) squares[thread] += squares[thread + half];
        } else {
            const float length = sqrtf(squares[0]);
            const bool divide = args.unit && length > 0.0f;
            for (std::int32_t c = thread; c < channels; c += kThreads)
                write_number(args.out, block * args.maps.channels + c, args.number,
                             divide ? sums[c] / length : sums[c]);
        }
    }

    EDGETL_SHARED static void sum_last(const Args& args, std::int64_t first, int thread,
                                       float* sums) {
        const auto channels = static_cast<std::int32_t>(args.maps.channels);
        const std::int64_t positions = args.maps.positions;
        if (args.wide == 1) {
            for (std::int32_t c = thread; c < channels; c += kThreads) {
                float sum = 0.0f;
                for (std::int64_t p = 0; p < positions; ++p)
                    sum += read_number(args.maps.data, first + p * channels + c, args.maps.number);
                sums[c] = sum;
            }
            return;
        }
        const auto* vectors = static_cast<const Vector16*>(args.maps.data) + first / args.wide;
        const std::int32_t per_position = channels / args.wide;
        for (std::int32_t v = thread; v < per_position; v += kThreads) {
            float sum[8] = {};
            for (std::int64_t p = 0; p < positions; ++p) {
                const Vector16 vector = vectors[p * per_position + v];
#pragma unroll
                for (std::int32_t word = 0; word < 4; ++word) {
                    const std::uint32_t bits = vector.words[word];
                    if (args.maps.number == Number::kFloat32) {
                        sum[word] += float_of(bits);
                    } else {
                        sum[2 * word] += half_of(bits & 0xffffu, args.maps.number);
                        sum[2 * word + 1] += half_of(bits >> 16, args.maps.number);
                    }
                }
            }
#pragma unroll
            for (std::int32_t i = 0; i < 8; ++i)
                if (i < args.wide) sums[v * args.wide + i] = sum[i];
        }
    }

    EDGETL_SHARED static float half_of(std::uint32_t bits, Number number) {
        const auto narrow = static_cast<std::uint16_t>(bits);
        return number == Number::kFloat16 ? from_float16(narrow) : from_bfloat16(narrow);
    }

    EDGETL_SHARED static void load_piece(const Args& args, std::int64_t first, int thread,
                                         std::int32_t number, float* piece) {
        const std::int64_t all = args.maps.channels * args.maps.positions;
        const std::int64_t begin = static_cast<std::int64_t>(number) * args.piece;
        for (std::int64_t i = thread; i < args.piece && begin + i < all; i += kThreads)
            piece[i] = read_number(args.maps.data, first + begin + i, args.maps.number);
    }

    // A piece is whole channels, or a part of one that has too many positions.
    EDGETL_SHARED static void sum_piece(const Args& args, int thread, std::int32_t number,
                                        const float* piece, float* sums) {
        const std::int64_t positions = args.maps.positions;
        const std::int64_t begin = static_cast<std::int64_t>(number) * args.piece;
        const std::int64_t all = args.maps.channels * positions;
        const std::int64_t end = begin + args.piece < all ? begin + args.piece : all;
        for (std::int64_t c = begin / positions + thread; c * positions < end; c += kThreads) {
            const std::int64_t from = c * positions > begin ? c * positions : begin;
            const std::int64_t to = (c + 1) * positions < end ? (c + 1) * positions : end;
            float sum = sums[c];
            for (std::int64_t i = from; i < to; ++i) sum += piece[i - begin];
            sums[c] = sum;
        }
    }
};

}  // namespace

void pool(const Maps& maps, bool unit, Number number, void* out, const Queue& queue) {
    if (maps.channels < 1 || maps.channels > kMostChannels || maps.positions < 1)
        throw std::invalid_argument("maps of " + std::to_string(maps.channels) + " channels and " +
                                    std::to_string(maps.positions) + " positions; 1 to " +
                                    std::to_string(kMostChannels) +
                                    " channels and at least one position can be pooled");
    PoolArgs args{maps, unit, number, out, 1, 0, 0};
    const auto wide = static_cast<std::int32_t>(16 / bytes_of(maps.number));
    if (maps.channels % wide == 0 && reinterpret_cast<std::uintptr_t>(maps.data) % 16 == 0)
        args.wide = wide;
    if (maps.channels_last || maps.positions == 1) {
        args.maps.channels_last = true;  // with one position it is the same
    } else {
        const std::int64_t whole = PoolBody::kPiece / maps.positions * maps.positions;
        args.piece = static_cast<std::int32_t>(whole > 0 ? whole : PoolBody::kPiece);
        const std::int64_t pieces = (maps.channels * maps.positions + args.piece - 1) / args.piece;
        if (pieces > (1 << 28))
            throw std::invalid_argument("maps of " + std::to_string(maps.positions) +
                                        " positions are too large to be pooled");
        args.pieces = static_cast<std::int32_t>(pieces);
    }
    const std::size_t shared =
        4 * static_cast<std::size_t>(maps.channels + PoolBody::kThreads + args.piece);
    launch<PoolBody>(args, Grid{maps.n, shared}, queue, "the pooling of a batch");
}

}  // namespace edgetl::gpu
