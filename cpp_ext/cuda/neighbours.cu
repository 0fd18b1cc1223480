// The rows of a memory most similar to queries; see edgetl/cuda_neighbours.h.
//
// Compiled by nvcc for the GPU, and as plain C++ for the host twin. The rows are split among
// blocks; each block keeps the best k of its own rows for 16 queries at a time, in shared memory. A
// second launch merges these lists, which are sorted: whoever has the best head gives it. Made for
// few queries and many rows, where reading the rows is what takes time; for hundreds of queries a
// matrix product on tensor cores is faster.
#include <algorithm>
#include <stdexcept>

#include "edgetl/cuda_neighbours.h"
#include "launch.h"
#include "numbers.h"

namespace edgetl::gpu {
namespace {

struct Candidate {
    float similarity;
    std::int32_t row;  // -1: none
};

struct SearchArgs {
    Search search;
    std::int32_t splits;
    std::int64_t rows_per_split;  // a multiple of SearchBody::kRows
    Candidate* lists;             // (n, splits, k)
    std::int64_t* indices;
    float* similarities;
};

// Larger products first, of equal ones the smaller row; what is nothing comes last.
EDGETL_SHARED bool comes_before(const Candidate& a, const Candidate& b) {
    if (b.row < 0) return a.row >= 0;
    return a.row >= 0 &&
           (a.similarity > b.similarity || (a.similarity == b.similarity && a.row < b.row));
}

// Products of 16 queries with 64 rows at a time, in pieces of the dimension.
struct SearchBody {
    using Args = SearchArgs;
    static constexpr int kThreads = 256;
    static constexpr int kBlocks = 3;
    static constexpr std::int32_t kQueries = 16, kRows = 64, kPiece = 64;
    static constexpr std::int32_t kPerThread = kQueries * kRows / kThreads;
    // Rows in shared memory are this far apart: vectors of four, and no two in the same banks.
    static constexpr std::int32_t kPitch = kPiece + 4;

    struct State {
        std::int32_t pieces, steps;
        std::int32_t list;         // the block's, among those of a query
        std::int64_t first_query;  // of the block's 16
        std::int64_t first, end;   // rows
        float sums[kPerThread];
    };

    // First the lists are emptied; for 64 rows each piece is loaded and multiplied, and the
    // products are shown and looked through; at the end the lists are written.
    EDGETL_SHARED static int begin(const Args& args, int block, State& state) {
        const std::int32_t tile = block / args.splits;
        state.list = block - tile * args.splits;
        state.first_query = static_cast<std::int64_t>(tile) * kQueries;
        state.first = state.list * args.rows_per_split;
        const std::int64_t end = state.first + args.rows_per_split;
        state.end = end < args.search.rows ? end : args.search.rows;
        state.pieces = static_cast<std::int32_t>((args.search.dim + kPiece - 1) / kPiece);
        const auto tiles = static_cast<std::int32_t>((state.end - state.first + kRows - 1) / kRows);
        state.steps = 1 + tiles * (2 * state.pieces + 1) + 1;
        return state.steps;
    }

    EDGETL_SHARED static void step(const Args& args, int, int thread, int step, State& state,
                                   unsigned char* shared) {
        auto* queries = reinterpret_cast<float*>(shared);  // (kQueries, kPitch)
        float* rows = queries + kQueries * kPitch;         // (kRows, kPitch)
        float* products = rows + kRows * kPitch;           // (kQueries, kRows)
        auto* lists = reinterpret_cast<Candidate*>(products + kQueries * kRows);  // (kQueries, k)
        const auto k = static_cast<std::int32_t>(args.search.k);
        if (step == 0) {
            for (std::int32_t i = thread; i < kQueries * k; i += kThreads)
                lists[i] = Candidate{0.0f, -1};
            return;
        }
        if (step == state.steps - 1) {
            for (std::int32_t i = thread; i < kQueries * k; i += kThreads) {
                const std::int64_t query = state.first_query + i / k;
                if (query < args.search.n)
                    args.lists[(query * args.splits + state.list) * k + i % k] = lists[i];
            }
            return;
        }
        const int per_tile = 2 * state.pieces + 1;
        const int tile = (step - 1) / per_tile, inside = (step - 1) - tile * per_tile;
        const std::int64_t first = state.first + static_cast<std::int64_t>(tile) * kRows;
        if (inside == per_tile - 1) {
            // Lists belong to one thread each; the products were shown by the step before.
            if (thread < kQueries && state.first_query + thread < args.search.n)
                look_through(products + thread * kRows, first, state.end, k, lists + thread * k);
        } else if (inside % 2 == 0) {
            const std::int64_t from = static_cast<std::int64_t>(inside / 2) * kPiece;
            load(args, args.search.queries, state.first_query, args.search.n, from, kQueries,
                 thread, queries);
            load(args, args.search.memory, first, state.end, from, kRows, thread, rows);
        } else {
            multiply(thread, inside == 1, queries, rows, state);
            if (inside == per_tile - 2) show(thread, state, products);
        }
    }

    // Numbers [from, from + kPiece) of `count` rows; what lies beyond the end is zero.
    EDGETL_SHARED static void load(const Args& args, const void* data, std::int64_t first,
                                   std::int64_t end, std::int64_t from, std::int32_t count,
                                   int thread, float* into) {
        const std::int64_t dim = args.search.dim;
#pragma unroll 4
        for (std::int32_t i = thread; i < count * kPiece; i += kThreads) {
            const std::int32_t row = i / kPiece, column = i % kPiece;
            const bool inside = first + row < end && from + column < dim;
            into[row * kPitch + column] =
                inside ? read_number(data, (first + row) * dim + from + column, args.search.number)
                       : 0.0f;
        }
    }

    // A thread has one query and every 16th row.
    EDGETL_SHARED static void multiply(int thread, bool begin, const float* queries,
                                       const float* rows, State& state) {
        constexpr std::int32_t kApart = kRows / kPerThread;
        const float* query = queries + thread / kApart * kPitch;
        const float* row = rows + thread % kApart * kPitch;
        if (begin)
            for (float& sum : state.sums) sum = 0.0f;
#pragma unroll 4
        for (std::int32_t i = 0; i < kPiece; i += 4) {
            const Vector16 left = *reinterpret_cast<const Vector16*>(query + i);
#pragma unroll
            for (std::int32_t j = 0; j < kPerThread; ++j) {
                const Vector16 right =
                    *reinterpret_cast<const Vector16*>(row + j * kApart * kPitch + i);
#pragma unroll
                for (std::int32_t word = 0; word < 4; ++word)
                    state.sums[j] = fmaf(float_of(left.words[word]), float_of(right.words[word]),
                                         state.sums[j]);
            }
        }
    }

    EDGETL_SHARED static void show(int thread, const State& state, float* products) {
        constexpr std::int32_t kApart = kRows / kPerThread;
#pragma unroll
        for (std::int32_t j = 0; j < kPerThread; ++j)
            products[thread / kApart * kRows + thread % kApart + j * kApart] = state.sums[j];
    }

    // Rows come in rising order, so one that equals the last of the list comes after it.
    EDGETL_SHARED static void look_through(const float* products, std::int64_t first,
                                           std::int64_t end, std::int32_t k, Candidate* list) {
        Candidate worst = list[k - 1];
        for (std::int32_t i = 0; i < kRows && first + i < end; ++i) {
            const float product = products[i];
            // A product that is not a number is neither.
            const bool better = worst.row < 0 ? product == product : product > worst.similarity;
            if (!better) continue;
            const Candidate found{product, static_cast<std::int32_t>(first + i)};
            std::int32_t place = k - 1;
            for (; place > 0 && comes_before(found, list[place - 1]); --place)
                list[place] = list[place - 1];
            list[place] = found;
            worst = list[k - 1];
        }
    }
};

// One block merges the lists of one query: k rounds, in which the best head is found by halves.
struct MergeBody {
    using Args = SearchArgs;
    static constexpr int kThreads = 128;
    static constexpr int kBlocks = 8;
    static constexpr int kHalvings = 7;
    static constexpr int kPerRound = 1 + kHalvings + 1;
    struct State {
        std::int32_t head = 0;
    };

    EDGETL_SHARED static int begin(const Args& args, int, State&) {
        return static_cast<int>(args.search.k) * kPerRound;
    }

    EDGETL_SHARED static void step(const Args& args, int block, int thread, int step, State& state,
                                   unsigned char* shared) {
        auto* heads = reinterpret_cast<Candidate*>(shared);                // (kThreads)
        auto* owners = reinterpret_cast<std::int32_t*>(heads + kThreads);  // (kThreads)
        const int round = step / kPerRound, inside = step - round * kPerRound;
        const auto k = static_cast<std::int32_t>(args.search.k);
        if (inside == 0) {
            const Candidate* list =
                args.lists + (static_cast<std::int64_t>(block) * args.splits + thread) * k;
            heads[thread] =
                thread < args.splits && state.head < k ? list[state.head] : Candidate{0.0f, -1};
            owners[thread] = thread;
        } else if (inside <= kHalvings) {
            const int half = kThreads >> inside;
            if (thread < half && comes_before(heads[thread + half], heads[thread])) {
                heads[thread] = heads[thread + half];
                owners[thread] = owners[thread + half];
            }
        } else {
            const Candidate best = heads[0];
            if (thread == owners[0] && best.row >= 0) ++state.head;
            if (thread == 0) {
                const std::int64_t place = static_cast<std::int64_t>(block) * k + round;
                args.indices[place] = best.row;
                args.similarities[place] = best.similarity;
            }
        }
    }
};

// Enough blocks to fill a large GPU, none of them with fewer rows than pay.
void split(SearchArgs& args) {
    constexpr std::int64_t kBlocks = 528, kFewest = 4 * SearchBody::kRows;
    const std::int64_t tiles = (args.search.n + SearchBody::kQueries - 1) / SearchBody::kQueries;
    std::int64_t splits = std::min<std::int64_t>(MergeBody::kThreads, kBlocks / tiles);
    splits = std::max<std::int64_t>(1, std::min(splits, args.search.rows / kFewest));
    const std::int64_t rows = (args.search.rows + splits - 1) / splits;
    args.rows_per_split = (rows + SearchBody::kRows - 1) / SearchBody::kRows * SearchBody::kRows;
    args.splits = static_cast<std::int32_t>((args.search.rows + args.rows_per_split - 1) /
                                            args.rows_per_split);
}

void check(const Search& search) {
    constexpr std::int64_t kMostRows = (std::int64_t{1} << 31) - 1;
    if (search.k < 1 || search.k > kMostNeighbours || search.k > search.rows || search.n < 1 ||
        search.dim < 1 || search.rows > kMostRows)
        throw std::invalid_argument(
            "k=" + std::to_string(search.k) + " of " + std::to_string(search.rows) + " rows for " +
            std::to_string(search.n) + " queries of " + std::to_string(search.dim) +
            " numbers; need 1 <= k <= " + std::to_string(kMostNeighbours) +
            ", no more than there are rows, and no empty arrays");
}

}  // namespace

std::size_t nearest_workspace(const Search& search) {
    check(search);
    SearchArgs args{};
    args.search = search;
    split(args);
    return sizeof(Candidate) * static_cast<std::size_t>(search.n * args.splits * search.k);
}

void nearest(const Search& search, void* workspace, std::int64_t* indices, float* similarities,
             const Queue& queue) {
    check(search);
    SearchArgs args{};
    args.search = search;
    args.lists = static_cast<Candidate*>(workspace);
    args.indices = indices;
    args.similarities = similarities;
    split(args);
    const std::int64_t tiles = (search.n + SearchBody::kQueries - 1) / SearchBody::kQueries;
    const std::size_t floats =
        static_cast<std::size_t>(SearchBody::kQueries + SearchBody::kRows) * SearchBody::kPitch +
        SearchBody::kQueries * SearchBody::kRows;
    const std::size_t shared =
        4 * floats + sizeof(Candidate) * SearchBody::kQueries * static_cast<std::size_t>(search.k);
    launch<SearchBody>(args, Grid{tiles * args.splits, shared}, queue, "the search of neighbours");
    launch<MergeBody>(
        args, Grid{search.n, MergeBody::kThreads * (sizeof(Candidate) + sizeof(std::int32_t))},
        queue, "the merging of neighbours");
}

}  // namespace edgetl::gpu
