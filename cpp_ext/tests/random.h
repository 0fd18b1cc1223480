// Pseudo-random numbers and photos that are the same on every machine, and a hash of what was made
// of them. The generator is splitmix64 (G. Steele, D. Lea, C. Flood, OOPSLA 2014), the hash FNV-1a
// of 64 bits; tests/native/test_golden.py computes both again in Python.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace check {

class Random {
  public:
    explicit Random(std::uint64_t seed) : state_(seed) {}

    std::uint64_t next() {
        std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
    }

    // From `low` to `high`, both included.
    std::int64_t between(std::int64_t low, std::int64_t high) {
        return low + static_cast<std::int64_t>(next() % static_cast<std::uint64_t>(high - low + 1));
    }

    double unit() { return static_cast<double>(next() >> 11) * 0x1p-53; }

    bool coin() { return (next() & 1u) != 0; }

  private:
    std::uint64_t state_;
};

// Every byte is the top one of a number; with `extreme` only 0 and 255, where sums overshoot.
inline std::vector<std::uint8_t> random_bytes(Random& random, std::size_t count,
                                              bool extreme = false) {
    std::vector<std::uint8_t> bytes(count);
    for (std::uint8_t& byte : bytes) {
        byte = static_cast<std::uint8_t>(random.next() >> 56);
        if (extreme) byte = byte < 128 ? 0 : 255;
    }
    return bytes;
}

inline std::uint64_t fnv1a(const void* data, std::size_t count) {
    const auto* bytes = static_cast<const unsigned char*>(data);
    std::uint64_t hash = 0xcbf29ce484222325u;
    for (std::size_t i = 0; i < count; ++i) hash = (hash ^ bytes[i]) * 0x100000001b3u;
    return hash;
}

}  // namespace check
