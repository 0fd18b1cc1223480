// Computes resampling weights; see resample.h. Every expression keeps the order of operations and
// the roundings that make Pillow's results reproducible to the bit.
#include "resample.h"

#include <algorithm>
#include <cmath>

namespace edgetl {
namespace {

double bilinear(double x) {
    x = std::abs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

// Keys' cubic convolution with a = -0.5 (R. Keys, IEEE Trans. ASSP 29(6), 1981).
double bicubic(double x) {
    constexpr double a = -0.5;
    x = std::abs(x);
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
    return 0.0;
}

std::int32_t to_fixed(double weight) {
    const double scaled = weight * (1 << kPrecisionBits);
    return static_cast<std::int32_t>(weight < 0 ? scaled - 0.5 : scaled + 0.5);
}

}  // namespace

Axis make_axis(std::int64_t in, std::int64_t out, std::int64_t first, std::int64_t count,
               Filter filter) {
    double (*const kernel)(double) = filter == Filter::kBicubic ? bicubic : bilinear;
    const double scale = static_cast<double>(in) / static_cast<double>(out);
    const double filter_scale = std::max(scale, 1.0);
    const double support = (filter == Filter::kBicubic ? 2.0 : 1.0) * filter_scale;
    const double step = 1.0 / filter_scale;

    Axis axis;
    axis.count = count;
    std::vector<std::vector<std::int32_t>> rows(count);
    std::vector<double> exact;
    for (std::int64_t i = 0; i < count; ++i) {
        const double center = (static_cast<double>(first + i) + 0.5) * scale;
        const std::int64_t low =
            std::max<std::int64_t>(static_cast<std::int64_t>(center - support + 0.5), 0);
        const std::int64_t high =
            std::min<std::int64_t>(static_cast<std::int64_t>(center + support + 0.5), in);
        exact.assign(high - low, 0.0);
        double sum = 0.0;
        for (std::int64_t x = 0; x < high - low; ++x) {
            exact[x] = kernel((static_cast<double>(x + low) - center + 0.5) * step);
            sum += exact[x];
        }
        std::vector<std::int32_t>& row = rows[i];
        for (double weight : exact) row.push_back(to_fixed(sum != 0.0 ? weight / sum : weight));
        // Zeros at the end cost time and change nothing. Those at the beginning stay, so that
        // `start` never falls from one output to the next.
        while (row.size() > 1 && row.back() == 0) row.pop_back();
        axis.start.push_back(low);
        axis.length.push_back(static_cast<std::int32_t>(row.size()));
        axis.taps = std::max(axis.taps, static_cast<std::int64_t>(row.size()));
    }
    axis.weights.assign(count * axis.taps, 0);
    for (std::int64_t i = 0; i < count; ++i)
        std::copy(rows[i].begin(), rows[i].end(), axis.weights.begin() + i * axis.taps);
    return axis;
}

}  // namespace edgetl
