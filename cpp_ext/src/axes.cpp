// Packs the weights of an axis for the kernels, and keeps the last few; see axes.h.
#include "axes.h"

#include <algorithm>
#include <cstddef>
#include <list>
#include <tuple>
#include <utility>

namespace edgetl {
namespace {

PackedAxis pack_axis(Axis axis, Direction direction, const Kernels& kernels) {
    // Rows are grouped from the first one needed on, so a window may begin inside a group; columns
    // are not grouped.
    const bool grouped = direction == Direction::kVertical;
    PackedAxis packed;
    packed.first = axis.start.front();
    packed.span = 0;
    packed.cells = (axis.taps + (grouped ? kernels.rows - 1 : 0) + kernels.rows - 1) / kernels.rows;
    packed.words.assign(axis.count * packed.cells * kernels.words_per_cell, 0);
    for (std::int64_t i = 0; i < axis.count; ++i) {
        kernels.pack(axis.weights.data() + i * axis.taps, axis.length[i],
                     grouped ? (axis.start[i] - packed.first) % kernels.rows : 0,
                     packed.words.data() + i * packed.cells * kernels.words_per_cell);
        if (!grouped) packed.offsets.push_back(3 * (axis.start[i] - packed.first));
        packed.span = std::max(packed.span, axis.start[i] - packed.first + axis.length[i]);
    }
    // Columns are made a few at a time: the last one is repeated, at the weights zero.
    if (!grouped) {
        packed.offsets.resize(round_up(axis.count, kColumnStep), packed.offsets.back());
        packed.words.resize(packed.offsets.size() * packed.cells * kernels.words_per_cell, 0);
    }
    packed.axis = std::move(axis);
    return packed;
}

}  // namespace

// The last few axes of this thread: photos of a set share sizes, and weights take as long to make
// as a tenth of the work.
std::shared_ptr<const PackedAxis> cached_axis(std::int64_t in, std::int64_t out, std::int64_t first,
                                              std::int64_t count, Filter filter,
                                              Direction direction, const Kernels& kernels) {
    constexpr std::size_t kKept = 16;
    constexpr std::size_t kLargest = std::size_t{1} << 18;  // words; larger ones are not kept
    using Key = std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t, Filter,
                           Direction, const Kernels*>;
    thread_local std::list<std::pair<Key, std::shared_ptr<const PackedAxis>>> recent;
    const Key key{in, out, first, count, filter, direction, &kernels};
    for (auto entry = recent.begin(); entry != recent.end(); ++entry) {
        if (entry->first != key) continue;
        recent.splice(recent.begin(), recent, entry);
        return recent.front().second;
    }
    auto axis = std::make_shared<const PackedAxis>(
        pack_axis(make_axis(in, out, first, count, filter), direction, kernels));
    if (axis->words.size() <= kLargest) {
        recent.emplace_front(key, axis);
        if (recent.size() > kKept) recent.pop_back();
    }
    return axis;
}

std::shared_ptr<const Normal> cached_normal(const float mean[3], const float std[3]) {
    struct Entry {
        float mean[3], std[3];
        std::shared_ptr<const Normal> normal;
    };
    thread_local Entry last{};
    if (!last.normal || !std::equal(mean, mean + 3, last.mean) ||
        !std::equal(std, std + 3, last.std)) {
        std::copy(mean, mean + 3, last.mean);
        std::copy(std, std + 3, last.std);
        last.normal = std::make_shared<const Normal>(make_normal(mean, std));
    }
    return last.normal;
}

}  // namespace edgetl
