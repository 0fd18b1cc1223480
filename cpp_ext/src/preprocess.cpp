// Drives the kernels over one image: the order of the rows, and what the loops may read.
//
// Output rows are made one after the other; the groups of input rows a window needs are resampled
// horizontally just before, into a small ring that stays in the first-level cache.
#include "edgetl/preprocess.h"

#include <algorithm>
#include <exception>
#include <memory>
#include <system_error>
#include <thread>
#include <vector>

#include "axes.h"
#include "geometry.h"
#include "kernels.h"
#include "normalise.h"

namespace edgetl {
namespace {

const Kernels& kernels_of(Isa isa) {
    switch (has_isa(isa) ? isa : best_isa()) {
#ifdef EDGETL_X86
        case Isa::kAvx512Vbmi:
            return kAvx512VbmiKernels;
        case Isa::kAvx512:
            return kAvx512Kernels;
        case Isa::kAvx2:
            return kAvx2Kernels;
#endif
#ifdef EDGETL_NEON
        case Isa::kNeon:
            return kNeonKernels;
#endif
        default:
            return kPortableKernels;
    }
}

// One image, ready to be worked on by several threads.
struct Job {
    const Image& image;
    const Definition& definition;
    const Kernels& kernels;
    const PackedColumns& x;
    const PackedRows& y;
    const PackedRows*
        before;  // where rows are resized first: their weights, and y leaves them alone
    const Normal& normal;
    std::uint8_t* out;

    void rows(std::int64_t begin, std::int64_t end) const;
};

// The rows the horizontal loop works on, safe to read beyond their end: the image's own, or the
// vertically resized ones. They begin at the first row and column that have a weight.
class RowReader {
  public:
    explicit RowReader(const Job& job)
        : image_(job.image),
          kernels_(job.kernels),
          before_(job.before),
          used_(3 * job.x.span),
          reach_(std::max(job.x.columns.reach, used_)) {
        const Box& part = image_.part;
        const PackedRows& down = before_ != nullptr ? *before_ : job.y;
        top_ = down.first - part.top;
        left_ = 3 * (job.x.first - part.left);
        height_ = before_ != nullptr ? before_->axis.count : part.height - top_;
        limit_ =
            std::max<std::int64_t>(0, (part.height - 1) * image_.stride) + 3 * part.width - left_;
    }

    // `count` rows from `first` on. They may run over the last row: its copies stand in, since the
    // weights there are zero.
    Rows rows(std::int64_t first, std::int64_t count) {
        const std::int64_t top = (top_ + first) * image_.stride;
        const std::int64_t bottom = top + (count - 1) * image_.stride;
        if (before_ == nullptr && first + count <= height_ &&
            std::max(top, bottom) + reach_ <= limit_)
            return {image_.data + left_ + top, image_.stride};
        buffer_.resize(count * reach_);
        for (std::int64_t r = 0; r < count; ++r)
            copy(std::min(first + r, height_ - 1), buffer_.data() + r * reach_);
        return {buffer_.data(), reach_};
    }

  private:
    void copy(std::int64_t y, std::uint8_t* to) const {
        const std::uint8_t* origin = image_.data + left_ + top_ * image_.stride;
        if (before_ == nullptr) {
            const std::uint8_t* row = origin + y * image_.stride;
            std::copy(row, row + used_, to);
            return;
        }
        const Axis& axis = before_->axis;
        kernels_.reduce(
            {origin + (axis.start[y] - before_->first) * image_.stride, image_.stride,
             before_->words.data() + y * before_->cells * kernels_.words_per_cell, axis.length[y]},
            used_, to);
    }

    const Image& image_;
    const Kernels& kernels_;
    const PackedRows* before_;
    std::int64_t used_;    // bytes of a row that have a weight
    std::int64_t reach_;   // bytes the kernel may read from there on
    std::int64_t top_;     // rows from image.data to the first that has a weight
    std::int64_t left_;    // bytes from image.data to the first column that has one
    std::int64_t height_;  // rows there are from the first on
    std::int64_t limit_;   // bytes that may be read from the first column of the first row on
    std::vector<std::uint8_t> buffer_;
};

void Job::rows(std::int64_t begin, std::int64_t end) const {
    const std::int64_t size = definition.size;
    const bool planar = definition.layout == Layout::kNchw;
    const std::int64_t pitch = planar ? round_up(size, kColumnPad) : 0;
    const std::int64_t columns = 3 * round_up(size, kColumnPad) + kColumnPad;
    const std::int64_t group_bytes = columns * kernels.cell_bytes;
    const std::int64_t batch_rows = kernels.rows * kernels.batch;
    const std::int64_t slots = y.cells + kernels.batch - 1;
    const std::int64_t row_step = (planar ? size : 3 * size) * value_bytes(definition.dtype);

    RowReader reader(*this);
    LineVector<std::uint8_t> ring(slots * group_bytes);
    std::vector<const std::uint8_t*> window(y.cells);
    std::uint8_t* made[kMaxBatch];
    Vertical down{nullptr,          0,      planar ? size : 3 * size, pitch, size * size,
                  definition.dtype, &normal};

    std::int64_t done = 0;  // groups before this are in the ring, or no longer needed
    for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t start = y.axis.start[i] - y.first;
        const std::int64_t first = start / kernels.rows;
        const std::int64_t last = (start + y.axis.length[i] - 1) / kernels.rows;
        for (done = std::max(done, first); done <= last; done += kernels.batch) {
            for (int b = 0; b < kernels.batch; ++b)
                made[b] = ring.data() + (done + b) % slots * group_bytes;
            x.columns.run(reader.rows(done * kernels.rows, batch_rows), x.columns, pitch, made);
        }
        for (std::int64_t g = first; g <= last; ++g)
            window[g - first] = ring.data() + g % slots * group_bytes;
        down.words = y.words.data() + i * y.cells * kernels.words_per_cell;
        down.groups = last - first + 1;
        kernels.vertical(window.data(), down, out + i * row_step);
    }
}

// How many threads pay: starting one takes about as long as half a megabyte of pixels.
std::int64_t most_parts(const Job& job) {
    constexpr std::int64_t kBytes = std::int64_t{1} << 19;
    const std::int64_t size = job.definition.size;
    const PackedRows& down = job.before != nullptr ? *job.before : job.y;
    const std::int64_t height = down.axis.start.back() + down.axis.length.back() - down.first;
    return std::clamp<std::int64_t>(3 * (height * job.x.span + size * size) / kBytes, 1, size);
}

void run(const Job& job, int threads) {
    const std::int64_t size = job.definition.size;
    const std::int64_t parts = std::min<std::int64_t>(threads, most_parts(job));
    if (parts == 1) return job.rows(0, size);
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

}  // namespace

void preprocess(const Image& image, const Definition& definition, void* out, int threads, Isa isa) {
    check(image, definition, threads);
    const Kernels& kernels = kernels_of(isa);
    const Geometry place = geometry(image.height, image.width, definition);
    const std::int64_t size = definition.size;
    const AxisKey across{image.width, place.width, place.left, size, definition.filter, &kernels};
    const AxisKey down{image.height, place.height, place.top, size, definition.filter, &kernels};
    const auto x = cached_columns(across);
    const auto normal = cached_normal(definition.mean, definition.std);
    auto* bytes = static_cast<std::uint8_t*>(out);
    if (!place.rows_first) {
        const auto y = cached_rows(down);
        run(Job{image, definition, kernels, *x, *y, nullptr, *normal, bytes}, threads);
        return;
    }
    const auto y = cached_windows(down);
    const auto identity = cached_rows({size, size, 0, size, definition.filter, &kernels});
    run(Job{image, definition, kernels, *x, *identity, y.get(), *normal, bytes}, threads);
}

}  // namespace edgetl
