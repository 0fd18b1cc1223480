// Packs the weights of an axis for the kernels, and keeps the last few; see axes.h.
#include "axes.h"

#include <algorithm>
#include <cstddef>
#include <list>
#include <tuple>
#include <utility>

namespace edgetl {
namespace {

Axis make_axis(const AxisKey& key) {
    return make_axis(key.in, key.out, key.first, key.count, key.filter);
}

PackedRows pack_rows(Axis axis, const Kernels& kernels, bool grouped) {
    PackedRows packed;
    packed.first = axis.start.front();
    packed.cells = (axis.taps + (grouped ? kernels.rows - 1 : 0) + kernels.rows - 1) / kernels.rows;
    packed.words.assign(axis.count * packed.cells * kernels.words_per_cell, 0);
    for (std::int64_t i = 0; i < axis.count; ++i)
        kernels.pack(axis.weights.data() + i * axis.taps, axis.length[i],
                     grouped ? (axis.start[i] - packed.first) % kernels.rows : 0,
                     packed.words.data() + i * packed.cells * kernels.words_per_cell);
    packed.axis = std::move(axis);
    return packed;
}

PackedColumns pack_columns(const Axis& axis, const Kernels& kernels) {
    PackedColumns packed{axis.start.front(), 0, kernels.pack_columns(axis)};
    for (std::int64_t i = 0; i < axis.count; ++i)
        packed.span = std::max(packed.span, axis.start[i] - packed.first + axis.length[i]);
    return packed;
}

std::size_t size_of(const PackedRows& packed) {
    return packed.words.size();
}
std::size_t size_of(const PackedColumns& packed) {
    return packed.columns.words.size();
}

// The last few of this thread: photos of a set share sizes, and weights take as long to make as a
// tenth of the work.
template <typename Packed>
class Recent {
  public:
    template <typename Make>
    std::shared_ptr<const Packed> find(const AxisKey& wanted, const Make& make) {
        const Key key{wanted.in,    wanted.out,    wanted.first,
                      wanted.count, wanted.filter, wanted.kernels};
        for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
            if (entry->first != key) continue;
            entries_.splice(entries_.begin(), entries_, entry);
            return entries_.front().second;
        }
        auto packed = std::make_shared<const Packed>(make(make_axis(wanted), *wanted.kernels));
        if (size_of(*packed) <= kLargest) {
            entries_.emplace_front(key, packed);
            if (entries_.size() > kKept) entries_.pop_back();
        }
        return packed;
    }

  private:
    using Key =
        std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t, Filter, const Kernels*>;
    static constexpr std::size_t kKept = 8;
    static constexpr std::size_t kLargest = std::size_t{1} << 18;  // words; larger ones go
    std::list<std::pair<Key, std::shared_ptr<const Packed>>> entries_;
};

}  // namespace

Columns pack_each_column(const Axis& axis, const Kernels& kernels, int cell, int step,
                         int overread) {
    Columns columns{};
    columns.count = round_up(axis.count, step);
    columns.cells = (axis.taps + cell - 1) / cell;
    const std::int64_t words = columns.cells * cell / kernels.rows * kernels.words_per_cell;
    // The last output is repeated, at the weights zero.
    columns.words.assign(columns.count * words, 0);
    for (std::int64_t i = 0; i < axis.count; ++i) {
        kernels.pack(axis.weights.data() + i * axis.taps, axis.length[i], 0,
                     columns.words.data() + i * words);
        columns.offsets.push_back(3 * (axis.start[i] - axis.start[0]));
    }
    columns.offsets.resize(columns.count, columns.offsets.back());
    columns.reach = columns.offsets.back() + 3 * cell * (columns.cells - 1) + overread;
    return columns;
}

std::shared_ptr<const PackedRows> cached_rows(const AxisKey& key) {
    thread_local Recent<PackedRows> recent;
    return recent.find(key, [](Axis axis, const Kernels& kernels) {
        return pack_rows(std::move(axis), kernels, true);
    });
}

std::shared_ptr<const PackedRows> cached_windows(const AxisKey& key) {
    thread_local Recent<PackedRows> recent;
    return recent.find(key, [](Axis axis, const Kernels& kernels) {
        return pack_rows(std::move(axis), kernels, false);
    });
}

std::shared_ptr<const PackedColumns> cached_columns(const AxisKey& key) {
    thread_local Recent<PackedColumns> recent;
    return recent.find(key, pack_columns);
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
