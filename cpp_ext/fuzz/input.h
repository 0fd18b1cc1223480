// Reads what a fuzzer tries out of the bytes it was given; zeros where they have run out. Values
// that programs stumble over come up often, so that even blind mutations meet them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>

namespace fuzz {

class Input {
  public:
    Input(const std::uint8_t* data, std::size_t size) : data_(data), left_(size) {}

    std::size_t left() const { return left_; }

    template <typename Value>
    Value take() {
        Value value{};
        const std::size_t count = left_ < sizeof value ? left_ : sizeof value;
        if (count > 0) std::memcpy(&value, data_, count);
        data_ += count;
        left_ -= count;
        return value;
    }

    bool coin() { return (take<std::uint8_t>() & 1u) != 0; }

    // From `low` to `high`, both included.
    std::int64_t between(std::int64_t low, std::int64_t high) {
        const auto span = static_cast<std::uint64_t>(high - low) + 1;
        return low + static_cast<std::int64_t>(take<std::uint32_t>() % span);
    }

    // Mostly 1 to `usual`; one time in eight a number at or beyond some limit.
    std::int64_t size(std::int64_t usual, std::int64_t limit) {
        const std::int64_t hostile[] = {0,
                                        -1,
                                        limit,
                                        limit + 1,
                                        std::int64_t{1} << 31,
                                        std::int64_t{1} << 40,
                                        std::numeric_limits<std::int64_t>::max(),
                                        std::numeric_limits<std::int64_t>::min()};
        if (take<std::uint8_t>() % 8 == 0) return hostile[take<std::uint8_t>() % 8];
        return between(1, usual);
    }

    // Mostly within [low, high]; one time in sixteen something else, infinity and NaN among it.
    template <typename Float>
    Float number(double low, double high) {
        using Limits = std::numeric_limits<Float>;
        const Float hostile[] = {Float{0},
                                 -Float{0},
                                 Limits::infinity(),
                                 -Limits::infinity(),
                                 Limits::quiet_NaN(),
                                 Limits::denorm_min(),
                                 Limits::max(),
                                 Limits::lowest()};
        if (take<std::uint8_t>() % 16 == 0) return hostile[take<std::uint8_t>() % 8];
        return static_cast<Float>(low + (high - low) * take<std::uint16_t>() / 65535.0);
    }

  private:
    const std::uint8_t* data_;
    std::size_t left_;
};

// Ends the program, so that the driver or libFuzzer keeps the input.
inline void require(bool condition, const char* what) {
    if (condition) return;
    std::fprintf(stderr, "does not hold: %s\n", what);
    std::abort();
}

}  // namespace fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
