// Computes resampling weights; see resample.h.
#include "resample.h"

#include <algorithm>

namespace edgetl {

Axis make_axis(std::int64_t in, std::int64_t out, std::int64_t first, std::int64_t count,
               Filter filter) {
    Axis axis;
    axis.count = count;
    std::vector<std::vector<std::int32_t>> rows(count);
    std::vector<double> exact;
    for (std::int64_t i = 0; i < count; ++i) {
        const Tap tap = find_tap(in, out, first + i, filter);
        exact.assign(tap.high - tap.low, 0.0);
        double sum = 0.0;
        for (std::int64_t x = tap.low; x < tap.high; ++x)
            sum += exact[x - tap.low] = raw_weight(tap, filter, x);
        std::vector<std::int32_t>& row = rows[i];
        for (double weight : exact) row.push_back(to_fixed(sum != 0.0 ? weight / sum : weight));
        // Zeros at the end cost time and change nothing. Those at the beginning stay, so that
        // `start` never falls from one output to the next.
        while (row.size() > 1 && row.back() == 0) row.pop_back();
        axis.start.push_back(tap.low);
        axis.length.push_back(static_cast<std::int32_t>(row.size()));
        axis.taps = std::max(axis.taps, static_cast<std::int64_t>(row.size()));
    }
    axis.weights.assign(count * axis.taps, 0);
    for (std::int64_t i = 0; i < count; ++i)
        std::copy(rows[i].begin(), rows[i].end(), axis.weights.begin() + i * axis.taps);
    return axis;
}

}  // namespace edgetl
