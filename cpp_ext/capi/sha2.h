// SHA-256 and SHA-512 (FIPS 180-4), of bytes that come in parts.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace edgetl::capi {

// What both hashes are but for their words: 32 bits and 64 rounds, or 64 bits and 80 rounds.
template <typename Word>
class Sha2 {
  public:
    static constexpr std::size_t kBlock = 16 * sizeof(Word);
    using Digest = std::array<std::uint8_t, 8 * sizeof(Word)>;

    Sha2();
    void add(const void* data, std::size_t bytes);
    // To be called once, last.
    Digest digest();

  private:
    void mix(const std::uint8_t* block);

    Word state_[8];
    std::uint8_t block_[kBlock];
    std::size_t filled_ = 0;
    std::uint64_t bytes_ = 0;  // less than 2^61: more can't be read in a lifetime
};

using Sha256 = Sha2<std::uint32_t>;
using Sha512 = Sha2<std::uint64_t>;

inline Sha256::Digest sha256(const void* data, std::size_t bytes) {
    Sha256 hash;
    hash.add(data, bytes);
    return hash.digest();
}

// Lower-case hexadecimal digits.
std::string hexadecimal(const std::uint8_t* bytes, std::size_t count);

inline std::string sha256_hex(const void* data, std::size_t bytes) {
    const auto digest = sha256(data, bytes);
    return hexadecimal(digest.data(), digest.size());
}

}  // namespace edgetl::capi
