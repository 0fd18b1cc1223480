// SHA-256 and SHA-512 by FIPS 180-4; see sha2.h.
#include "sha2.h"

#include <algorithm>
#include <cstring>

namespace edgetl::capi {
namespace {

// The first 64 bits of the fractional parts of the cube roots of the first 80 primes, and of the
// square roots of the first 8; SHA-256 takes the upper halves.
constexpr std::uint64_t kRounds[80] = {
    0x428a2f98d728ae22, 0x7137449123ef65cd, 0xb5c0fbcfec4d3b2f, 0xe9b5dba58189dbbc,
    0x3956c25bf348b538, 0x59f111f1b605d019, 0x923f82a4af194f9b, 0xab1c5ed5da6d8118,
    0xd807aa98a3030242, 0x12835b0145706fbe, 0x243185be4ee4b28c, 0x550c7dc3d5ffb4e2,
    0x72be5d74f27b896f, 0x80deb1fe3b1696b1, 0x9bdc06a725c71235, 0xc19bf174cf692694,
    0xe49b69c19ef14ad2, 0xefbe4786384f25e3, 0x0fc19dc68b8cd5b5, 0x240ca1cc77ac9c65,
    0x2de92c6f592b0275, 0x4a7484aa6ea6e483, 0x5cb0a9dcbd41fbd4, 0x76f988da831153b5,
    0x983e5152ee66dfab, 0xa831c66d2db43210, 0xb00327c898fb213f, 0xbf597fc7beef0ee4,
    0xc6e00bf33da88fc2, 0xd5a79147930aa725, 0x06ca6351e003826f, 0x142929670a0e6e70,
    0x27b70a8546d22ffc, 0x2e1b21385c26c926, 0x4d2c6dfc5ac42aed, 0x53380d139d95b3df,
    0x650a73548baf63de, 0x766a0abb3c77b2a8, 0x81c2c92e47edaee6, 0x92722c851482353b,
    0xa2bfe8a14cf10364, 0xa81a664bbc423001, 0xc24b8b70d0f89791, 0xc76c51a30654be30,
    0xd192e819d6ef5218, 0xd69906245565a910, 0xf40e35855771202a, 0x106aa07032bbd1b8,
    0x19a4c116b8d2d0c8, 0x1e376c085141ab53, 0x2748774cdf8eeb99, 0x34b0bcb5e19b48a8,
    0x391c0cb3c5c95a63, 0x4ed8aa4ae3418acb, 0x5b9cca4f7763e373, 0x682e6ff3d6b2b8a3,
    0x748f82ee5defb2fc, 0x78a5636f43172f60, 0x84c87814a1f0ab72, 0x8cc702081a6439ec,
    0x90befffa23631e28, 0xa4506cebde82bde9, 0xbef9a3f7b2c67915, 0xc67178f2e372532b,
    0xca273eceea26619c, 0xd186b8c721c0c207, 0xeada7dd6cde0eb1e, 0xf57d4f7fee6ed178,
    0x06f067aa72176fba, 0x0a637dc5a2c898a6, 0x113f9804bef90dae, 0x1b710b35131c471b,
    0x28db77f523047d84, 0x32caab7b40c72493, 0x3c9ebe0a15c9bebc, 0x431d67c49c100d4c,
    0x4cc5d4becb3e42b6, 0x597f299cfc657e2a, 0x5fcb6fab3ad6faec, 0x6c44198c4a475817};

constexpr std::uint64_t kStart[8] = {0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b,
                                     0xa54ff53a5f1d36f1, 0x510e527fade682d1, 0x9b05688c2b3e6c1f,
                                     0x1f83d9abfb41bd6b, 0x5be0cd19137e2179};

template <typename Word>
constexpr Word first_bits(std::uint64_t value) {
    return static_cast<Word>(value >> (64 - 8 * sizeof(Word)));
}

template <typename Word>
Word turned(Word value, int by) {
    return static_cast<Word>(value >> by | value << (static_cast<int>(8 * sizeof(Word)) - by));
}

// Amounts of rotation, and in the last column of the small ones of a shift (FIPS 180-4, 4.1).
template <typename Word>
struct Amounts;
template <>
struct Amounts<std::uint32_t> {
    static constexpr int rounds = 64;
    static constexpr int big0[] = {2, 13, 22}, big1[] = {6, 11, 25};
    static constexpr int small0[] = {7, 18, 3}, small1[] = {17, 19, 10};
};
template <>
struct Amounts<std::uint64_t> {
    static constexpr int rounds = 80;
    static constexpr int big0[] = {28, 34, 39}, big1[] = {14, 18, 41};
    static constexpr int small0[] = {1, 8, 7}, small1[] = {19, 61, 6};
};

template <typename Word>
Word big(Word x, const int (&by)[3]) {
    return turned(x, by[0]) ^ turned(x, by[1]) ^ turned(x, by[2]);
}

template <typename Word>
Word small(Word x, const int (&by)[3]) {
    return turned(x, by[0]) ^ turned(x, by[1]) ^ x >> by[2];
}

}  // namespace

template <typename Word>
Sha2<Word>::Sha2() {
    for (int i = 0; i < 8; ++i) state_[i] = first_bits<Word>(kStart[i]);
}

template <typename Word>
void Sha2<Word>::mix(const std::uint8_t* block) {
    using A = Amounts<Word>;
    Word w[A::rounds];
    for (int i = 0; i < 16; ++i) {
        w[i] = 0;
        for (std::size_t j = 0; j < sizeof(Word); ++j)
            w[i] = static_cast<Word>(w[i] << 8 | *block++);
    }
    for (int i = 16; i < A::rounds; ++i)
        w[i] = small(w[i - 2], A::small1) + w[i - 7] + small(w[i - 15], A::small0) + w[i - 16];
    Word a = state_[0], b = state_[1], c = state_[2], d = state_[3];
    Word e = state_[4], f = state_[5], g = state_[6], h = state_[7];
    for (int i = 0; i < A::rounds; ++i) {
        const Word chosen = (e & f) ^ (~e & g), majority = (a & b) ^ (a & c) ^ (b & c);
        const Word first = h + big(e, A::big1) + chosen + first_bits<Word>(kRounds[i]) + w[i];
        const Word second = big(a, A::big0) + majority;
        h = g, g = f, f = e, e = d + first;
        d = c, c = b, b = a, a = first + second;
    }
    const Word moved[] = {a, b, c, d, e, f, g, h};
    for (int i = 0; i < 8; ++i) state_[i] += moved[i];
}

template <typename Word>
void Sha2<Word>::add(const void* data, std::size_t bytes) {
    const auto* next = static_cast<const std::uint8_t*>(data);
    bytes_ += bytes;
    while (bytes > 0) {
        const std::size_t count = std::min(bytes, kBlock - filled_);
        std::memcpy(block_ + filled_, next, count);
        filled_ += count, next += count, bytes -= count;
        if (filled_ == kBlock) mix(block_), filled_ = 0;
    }
}

template <typename Word>
typename Sha2<Word>::Digest Sha2<Word>::digest() {
    const std::uint64_t bits = 8 * bytes_;
    const std::uint8_t one = 0x80, zero = 0;
    add(&one, 1);
    // The length is a number of two words, of which 64 bits are enough.
    while (filled_ != kBlock - 2 * sizeof(Word)) add(&zero, 1);
    while (filled_ != kBlock - 8) add(&zero, 1);
    std::uint8_t length[8];
    for (int i = 0; i < 8; ++i) length[i] = static_cast<std::uint8_t>(bits >> (56 - 8 * i));
    add(length, 8);
    Digest result;
    for (std::size_t i = 0; i < result.size(); ++i)
        result[i] = static_cast<std::uint8_t>(state_[i / sizeof(Word)] >>
                                              8 * (sizeof(Word) - 1 - i % sizeof(Word)));
    return result;
}

template class Sha2<std::uint32_t>;
template class Sha2<std::uint64_t>;

std::string hexadecimal(const std::uint8_t* bytes, std::size_t count) {
    std::string text;
    for (std::size_t i = 0; i < count; ++i) {
        text += "0123456789abcdef"[bytes[i] >> 4];
        text += "0123456789abcdef"[bytes[i] & 15];
    }
    return text;
}

}  // namespace edgetl::capi
