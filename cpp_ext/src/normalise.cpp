// Makes and checks the constants of normalise.h.
#include "normalise.h"

#include <cmath>
#include <cstring>

#include "edgetl/arithmetic.h"

namespace edgetl {

Normal make_normal(const float mean[3], const float std[3]) {
    Normal normal{};
    normal.exact = true;
    for (int c = 0; c < 3; ++c) {
        const double inverse = 1.0 / static_cast<double>(std[c]);
        normal.mean[c] = mean[c];
        normal.inverse_high[c] = static_cast<float>(inverse);
        normal.inverse_low[c] =
            static_cast<float>(inverse - static_cast<double>(normal.inverse_high[c]));
        for (int value = 0; value < 256; ++value) {
            const float pixel = static_cast<float>(value);
            normal.table[c][value] = normalise(value, mean[c], std[c]);
            const float unit_fast = std::fma(pixel, kPixelHigh, pixel * kPixelLow);
            const float centred_fast = unit_fast - mean[c];
            const float fast = std::fma(centred_fast, normal.inverse_high[c],
                                        centred_fast * normal.inverse_low[c]);
            if (std::memcmp(&fast, &normal.table[c][value], sizeof fast) != 0) normal.exact = false;
        }
    }
    for (int i = 3; i < kRepeat; ++i) {
        normal.mean[i] = normal.mean[i - 3];
        normal.inverse_high[i] = normal.inverse_high[i - 3];
        normal.inverse_low[i] = normal.inverse_low[i - 3];
    }
    return normal;
}

void look_up(const std::uint8_t* values, std::int64_t n, const Normal& normal, int channel,
             bool alternate, float* out) {
    for (std::int64_t i = 0; i < n; ++i) {
        out[i] = normal.table[channel][values[i]];
        if (alternate) channel = channel == 2 ? 0 : channel + 1;
    }
}

}  // namespace edgetl
