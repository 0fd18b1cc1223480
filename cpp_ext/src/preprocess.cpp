// Drives the kernels over one image: geometry, weights, and the order of the rows.
//
// Output rows are made one after the other; the groups of input rows a window needs are resampled
// horizontally just before, into a small ring that stays in the first-level cache.
#include "edgetl/preprocess.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <exception>
#include <list>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <tuple>

#include "kernels.h"
#include "normalise.h"
#include "resample.h"

namespace edgetl {
namespace {

const Kernels& kernels_of(Isa isa) {
#ifdef EDGETL_X86
    switch (std::min(isa, best_isa())) {
        case Isa::kAvx512:
            return kAvx512Kernels;
        case Isa::kAvx2:
            return kAvx2Kernels;
        case Isa::kPortable:
            break;
    }
#else
    (void)isa;
#endif
    return kPortableKernels;
}

// An axis with its weights packed for one set of kernels.
struct PackedAxis {
    Axis axis;
    std::int64_t cells;                 // cells per output
    std::vector<std::int64_t> offsets;  // horizontal only: bytes to the first tap
    std::vector<std::int32_t> words;    // (count, cells, words_per_cell)
};

std::int64_t round_up(std::int64_t value, std::int64_t step) {
    return (value + step - 1) / step * step;
}

enum class Direction { kHorizontal, kVertical };

PackedAxis pack_axis(Axis axis, Direction direction, const Kernels& kernels) {
    // Rows are grouped from row 0 on, so a window may begin inside a group; columns are not
    // grouped.
    const bool grouped = direction == Direction::kVertical;
    PackedAxis packed;
    packed.cells = (axis.taps + (grouped ? kernels.rows - 1 : 0) + kernels.rows - 1) / kernels.rows;
    packed.words.assign(axis.count * packed.cells * kernels.words_per_cell, 0);
    for (std::int64_t i = 0; i < axis.count; ++i) {
        kernels.pack(axis.weights.data() + i * axis.taps, axis.length[i],
                     grouped ? axis.start[i] % kernels.rows : 0,
                     packed.words.data() + i * packed.cells * kernels.words_per_cell);
        if (!grouped) packed.offsets.push_back(3 * axis.start[i]);
    }
    // Columns are made a few at a time: the last one is repeated, at the weights zero.
    if (!grouped) {
        packed.offsets.resize(round_up(axis.count, kColumnStep), packed.offsets.back());
        packed.words.resize(packed.offsets.size() * packed.cells * kernels.words_per_cell, 0);
    }
    packed.axis = std::move(axis);
    return packed;
}

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

// One image, ready to be worked on by several threads.
struct Job {
    const Image& image;
    const Definition& definition;
    const Kernels& kernels;
    const PackedAxis& x;
    const PackedAxis& y;
    const PackedAxis*
        before;  // where rows are resized first: their weights, and y leaves them alone
    const Normal& normal;
    float* out;           // or
    std::uint8_t* bytes;  // the other one is null

    void rows(std::int64_t begin, std::int64_t end) const;
};

// The rows the horizontal loop works on, safe to read beyond their end: the image's own, or the
// vertically resized ones.
class RowReader {
  public:
    RowReader(const Job& job, std::int64_t reach)
        : image_(job.image),
          kernels_(job.kernels),
          before_(job.before != nullptr ? &job.before->axis : nullptr),
          reach_(std::max(reach, 3 * image_.width)),
          limit_(std::max<std::int64_t>(0, (image_.height - 1) * image_.stride) +
                 3 * image_.width) {}

    // `count` rows from `first` on. They may run over the last row: its copies stand in, since the
    // weights there are zero.
    Rows rows(std::int64_t first, std::int64_t count) {
        const std::int64_t height = before_ != nullptr ? before_->count : image_.height;
        const std::int64_t top = first * image_.stride, bottom = top + (count - 1) * image_.stride;
        if (before_ == nullptr && first + count <= height &&
            std::max(top, bottom) + reach_ <= limit_)
            return {image_.data + top, image_.stride};
        buffer_.resize(count * reach_);
        for (std::int64_t r = 0; r < count; ++r)
            copy(std::min(first + r, height - 1), buffer_.data() + r * reach_);
        return {buffer_.data(), reach_};
    }

  private:
    void copy(std::int64_t y, std::uint8_t* to) const {
        if (before_ == nullptr) {
            const std::uint8_t* row = image_.data + y * image_.stride;
            std::copy(row, row + 3 * image_.width, to);
            return;
        }
        kernels_.reduce({image_.data + before_->start[y] * image_.stride, image_.stride,
                         before_->weights.data() + y * before_->taps, before_->length[y]},
                        3 * image_.width, to);
    }

    const Image& image_;
    const Kernels& kernels_;
    const Axis* before_;
    std::int64_t reach_;  // bytes the kernel may read from the start of a row
    std::int64_t limit_;  // bytes that may be read from image.data on
    std::vector<std::uint8_t> buffer_;
};

void Job::rows(std::int64_t begin, std::int64_t end) const {
    const std::int64_t size = definition.size;
    const bool planar = definition.layout == Layout::kNchw;
    const std::int64_t pitch = planar ? round_up(size, kColumnPad) : 0;
    const std::int64_t columns = planar ? 3 * pitch : round_up(3 * size, kColumnPad) + kColumnPad;
    const std::int64_t group_bytes = columns * kernels.cell_bytes;
    const std::int64_t batch_rows = kernels.rows * kernels.batch;
    const std::int64_t slots = y.cells + kernels.batch - 1;

    const std::int64_t padded = static_cast<std::int64_t>(x.offsets.size());
    const Horizontal across{x.offsets.data(), x.words.data(), padded, x.cells, pitch};
    const std::int64_t reach = *std::max_element(x.offsets.begin(), x.offsets.end()) +
                               3 * kernels.rows * (x.cells - 1) + kernels.overread;
    RowReader reader(*this, reach);
    std::vector<std::uint8_t> ring(slots * group_bytes);
    std::vector<const std::uint8_t*> window(y.cells);
    std::uint8_t* made[kMaxRows];

    std::int64_t done = 0;  // groups before this are in the ring, or no longer needed
    for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t first = y.axis.start[i] / kernels.rows;
        const std::int64_t last = (y.axis.start[i] + y.axis.length[i] - 1) / kernels.rows;
        for (done = std::max(done, first); done <= last; done += kernels.batch) {
            for (int b = 0; b < kernels.batch; ++b)
                made[b] = ring.data() + (done + b) % slots * group_bytes;
            kernels.horizontal(reader.rows(done * kernels.rows, batch_rows), across, made);
        }
        for (std::int64_t g = first; g <= last; ++g)
            window[g - first] = ring.data() + g % slots * group_bytes;
        Vertical down{y.words.data() + i * y.cells * kernels.words_per_cell, last - first + 1,
                      &normal, -1};
        if (bytes != nullptr) {
            kernels.vertical_bytes(window.data(), down, 3 * size, bytes + i * 3 * size);
            continue;
        }
        if (!planar) {
            kernels.vertical(window.data(), down, 3 * size, out + i * 3 * size);
            continue;
        }
        for (int c = 0; c < 3; ++c) {
            down.channel = c;
            kernels.vertical(window.data(), down, size, out + (c * size + i) * size);
            for (std::int64_t g = 0; g < down.groups; ++g) window[g] += pitch * kernels.cell_bytes;
        }
    }
}

void run(const Job& job, int threads) {
    const std::int64_t size = job.definition.size;
    const std::int64_t parts = std::clamp<std::int64_t>(threads, 1, size);
    std::vector<std::exception_ptr> errors(parts);
    const auto part = [&](std::int64_t p) {
        try {
            job.rows(size * p / parts, size * (p + 1) / parts);
        } catch (...) {
            errors[p] = std::current_exception();
        }
    };
    std::vector<std::thread> helpers;
    helpers.reserve(parts);
    std::int64_t next = 1;
    try {
        for (; next < parts; ++next) helpers.emplace_back(part, next);
    } catch (const std::system_error&) {
        // No more threads to be had: this one does the rest.
        for (std::int64_t p = next; p < parts; ++p) part(p);
    }
    part(0);
    for (std::thread& helper : helpers) helper.join();
    for (const std::exception_ptr& error : errors)
        if (error) std::rethrow_exception(error);
}

void check(const Image& image, const Definition& definition, int threads) {
    const auto fail = [](const std::string& text) { throw std::invalid_argument(text); };
    if (image.data == nullptr || image.height < 1 || image.width < 1 || image.height > kMaxSide ||
        image.width > kMaxSide)
        fail("image sides must be 1 to " + std::to_string(kMaxSide) + " pixels, got " +
             std::to_string(image.height) + " x " + std::to_string(image.width));
    if (definition.size < 1 || definition.size > definition.resize || definition.resize > 16384)
        fail("need 1 <= size <= resize <= 16384, got size=" + std::to_string(definition.size) +
             ", resize=" + std::to_string(definition.resize));
    for (int c = 0; c < 3; ++c)
        if (!std::isfinite(definition.mean[c]) || !(definition.std[c] > 0))
            fail("mean must be finite and std positive");
    if (threads < 1) fail("threads must be at least 1, got " + std::to_string(threads));
}

// (a - b) / 2 rounded half to even, as Python's round does.
std::int64_t half_difference(std::int64_t a, std::int64_t b) {
    const std::int64_t half = (a - b) / 2;
    return (a - b) % 2 == 0 ? half : half + half % 2;
}

// Exactly one of `out` and `bytes` is not null.
void start(const Image& image, const Definition& definition, float* out, std::uint8_t* bytes,
           int threads, Isa isa) {
    check(image, definition, threads);
    const Kernels& kernels = kernels_of(isa);
    const Geometry place = geometry(image.height, image.width, definition);
    const std::int64_t size = definition.size;
    const auto x = cached_axis(image.width, place.width, place.left, size, definition.filter,
                               Direction::kHorizontal, kernels);
    const auto y = cached_axis(image.height, place.height, place.top, size, definition.filter,
                               Direction::kVertical, kernels);
    const auto normal = cached_normal(definition.mean, definition.std);
    if (!place.rows_first) {
        run(Job{image, definition, kernels, *x, *y, nullptr, *normal, out, bytes}, threads);
        return;
    }
    const auto identity =
        cached_axis(size, size, 0, size, definition.filter, Direction::kVertical, kernels);
    run(Job{image, definition, kernels, *x, *identity, y.get(), *normal, out, bytes}, threads);
}

}  // namespace

Geometry geometry(std::int64_t height, std::int64_t width, const Definition& definition) {
    Geometry result{definition.resize, definition.resize, 0, 0, false};
    if (definition.fit == Fit::kShortest) {
        const std::int64_t shorter = std::min(height, width), longer = std::max(height, width);
        // A product of at most 34 bits: exact as a double, so the quotient is rounded once.
        const auto length = static_cast<std::int64_t>(
            static_cast<double>(definition.resize * longer) / static_cast<double>(shorter));
        (height < width ? result.width : result.height) = length;
    }
    result.top = half_difference(result.height, definition.size);
    result.left = half_difference(result.width, definition.size);
    const std::int64_t fewer_rows = height - result.height, fewer_columns = width - result.width;
    result.rows_first = fewer_rows > 0 && fewer_rows > 2 * fewer_columns;
    return result;
}

void preprocess(const Image& image, const Definition& definition, float* out, int threads,
                Isa isa) {
    start(image, definition, out, nullptr, threads, isa);
}

void preprocess(const Image& image, const Definition& definition, std::uint8_t* out, int threads,
                Isa isa) {
    if (definition.layout != Layout::kNhwc)
        throw std::invalid_argument("bytes are written pixel by pixel: the layout must be nhwc");
    start(image, definition, nullptr, out, threads, isa);
}

}  // namespace edgetl
