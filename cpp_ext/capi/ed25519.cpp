// ed25519 over 32-bit words, the same on every processor; see ed25519.h. Chosen to be plain rather
// than fast: a verification takes well below a millisecond on a desktop.
#include "ed25519.h"

#include <cstring>

#include "sha2.h"

namespace edgetl::capi {
namespace {

// ---- Integers of 256 bits, least significant word first ----

struct Number256 {
    std::uint32_t w[8];
};

Number256 from_bytes(const std::uint8_t* bytes) {
    Number256 n;
    for (int i = 0; i < 8; ++i) {
        n.w[i] = 0;
        for (int j = 3; j >= 0; --j) n.w[i] = n.w[i] << 8 | bytes[4 * i + j];
    }
    return n;
}

bool less(const Number256& a, const Number256& b) {
    for (int i = 7; i >= 0; --i)
        if (a.w[i] != b.w[i]) return a.w[i] < b.w[i];
    return false;
}

// a -= b; whether something was borrowed.
bool subtract(Number256& a, const Number256& b) {
    std::uint64_t borrow = 0;
    for (int i = 0; i < 8; ++i) {
        const std::uint64_t difference = std::uint64_t{a.w[i]} - b.w[i] - borrow;
        a.w[i] = static_cast<std::uint32_t>(difference);
        borrow = difference >> 63;
    }
    return borrow != 0;
}

bool bit(const Number256& n, int place) {
    return (n.w[place / 32] >> place % 32 & 1) != 0;
}

// The order of the base point, 2^252 + 27742317777372353535851937790883648493.
constexpr Number256 kOrder{{0x5cf5d3ed, 0x5812631a, 0xa2f79cd6, 0x14def9de, 0, 0, 0, 0x10000000}};

// 2^255 - 19.
constexpr Number256 kPrime{{0xffffffed, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff,
                            0xffffffff, 0x7fffffff}};

// 64 bytes modulo the order, bit by bit from the top.
Number256 modulo_order(const std::uint8_t* bytes) {
    Number256 rest{};
    for (int place = 511; place >= 0; --place) {
        std::uint32_t carry = bytes[place / 8] >> place % 8 & 1;
        for (std::uint32_t& word : rest.w) {  // doubled; below 2^254, so nothing is lost
            const std::uint32_t top = word >> 31;
            word = word << 1 | carry;
            carry = top;
        }
        if (!less(rest, kOrder)) subtract(rest, kOrder);
    }
    return rest;
}

// ---- The field of 2^255 - 19: any number of 256 bits stands for its remainder ----

using Field = Number256;

// Adds a small multiple of 2^256, which is 38 more than a multiple of the prime.
void fold(Field& a, std::uint64_t carry) {
    while (carry != 0) {
        carry *= 38;
        for (std::uint32_t& word : a.w) {
            carry += word;
            word = static_cast<std::uint32_t>(carry);
            carry >>= 32;
        }
    }
}

Field operator+(const Field& a, const Field& b) {
    Field sum;
    std::uint64_t carry = 0;
    for (int i = 0; i < 8; ++i) {
        carry += std::uint64_t{a.w[i]} + b.w[i];
        sum.w[i] = static_cast<std::uint32_t>(carry);
        carry >>= 32;
    }
    fold(sum, carry);
    return sum;
}

Field operator-(Field a, const Field& b) {
    constexpr Field kFold{{38, 0, 0, 0, 0, 0, 0, 0}};
    if (subtract(a, b))  // 2^256 too much, which is 38
        while (subtract(a, kFold)) {
        }
    return a;
}

Field operator*(const Field& a, const Field& b) {
    std::uint32_t product[16] = {};
    for (int i = 0; i < 8; ++i) {
        std::uint64_t carry = 0;
        for (int j = 0; j < 8; ++j) {
            carry += std::uint64_t{a.w[i]} * b.w[j] + product[i + j];
            product[i + j] = static_cast<std::uint32_t>(carry);
            carry >>= 32;
        }
        product[i + 8] = static_cast<std::uint32_t>(carry);
    }
    Field low;
    std::uint64_t carry = 0;
    for (int i = 0; i < 8; ++i) {
        carry += product[i] + std::uint64_t{38} * product[i + 8];
        low.w[i] = static_cast<std::uint32_t>(carry);
        carry >>= 32;
    }
    fold(low, carry);
    return low;
}

// The remainder itself.
Field reduced(Field a) {
    while (!less(a, kPrime)) subtract(a, kPrime);
    return a;
}

bool equal(const Field& a, const Field& b) {
    const Field x = reduced(a), y = reduced(b);
    return std::memcmp(x.w, y.w, sizeof x.w) == 0;
}

constexpr Field kZero{};
constexpr Field kOne{{1, 0, 0, 0, 0, 0, 0, 0}};

Field small(std::uint32_t value) {
    return Field{{value, 0, 0, 0, 0, 0, 0, 0}};
}

Field power(const Field& a, const Number256& exponent) {
    Field result = kOne;
    for (int place = 255; place >= 0; --place) {
        result = result * result;
        if (bit(exponent, place)) result = result * a;
    }
    return result;
}

Field inverse(const Field& a) {  // Fermat's little theorem
    Number256 exponent = kPrime;
    exponent.w[0] -= 2;
    return power(a, exponent);
}

// (p - 5) / 8 and (p - 1) / 4.
constexpr Number256 kRootPower{{0xfffffffd, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff,
                                0xffffffff, 0xffffffff, 0x0fffffff}};
constexpr Number256 kMinusOnePower{{0xfffffffb, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff,
                                    0xffffffff, 0xffffffff, 0x1fffffff}};

// ---- The curve -x^2 + y^2 = 1 + d x^2 y^2 (RFC 8032, 5.1) ----

struct Point {  // x = X / Z, y = Y / Z, x y = T / Z
    Field x, y, z, t;
};

constexpr Point kIdentity{kZero, kOne, kOne, kZero};

struct Curve {
    Field d, root;  // root^2 = -1
    Point base;
    Curve();
};

// RFC 8032, 5.1.3. False for what is no point, or not its canonical encoding.
bool decode(const Curve& curve, const std::uint8_t* bytes, Point* point) {
    Field y = from_bytes(bytes);
    const bool odd = bit(y, 255);
    y.w[7] &= 0x7fffffff;
    if (!less(y, kPrime)) return false;
    const Field u = y * y - kOne, v = curve.d * (y * y) + kOne;
    const Field v3 = v * v * v;
    Field x = u * v3 * power(u * v3 * v3 * v, kRootPower);
    if (!equal(v * x * x, u)) {
        if (!equal(v * x * x, kZero - u)) return false;
        x = x * curve.root;
    }
    x = reduced(x);
    if (equal(x, kZero) && odd) return false;
    if (bit(x, 0) != odd) x = reduced(kZero - x);
    *point = {x, y, kOne, x * y};
    return true;
}

Curve::Curve() {
    d = kZero - small(121665) * inverse(small(121666));
    root = power(small(2), kMinusOnePower);
    // The base point has y = 4/5 and the even x.
    const Field y = reduced(small(4) * inverse(small(5)));
    std::uint8_t bytes[32];
    for (int i = 0; i < 32; ++i) bytes[i] = static_cast<std::uint8_t>(y.w[i / 4] >> 8 * (i % 4));
    decode(*this, bytes, &base);
}

// RFC 8032, 5.1.4; complete: it holds for any two points, equal ones too.
Point sum(const Curve& curve, const Point& p, const Point& q) {
    const Field a = (p.y - p.x) * (q.y - q.x), b = (p.y + p.x) * (q.y + q.x);
    const Field c = p.t * (curve.d + curve.d) * q.t, d = (p.z + p.z) * q.z;
    const Field e = b - a, f = d - c, g = d + c, h = b + a;
    return {e * f, g * h, f * g, e * h};
}

Point doubled(const Point& p) {
    const Field a = p.x * p.x, b = p.y * p.y, c = p.z * p.z;
    const Field h = a + b, xy = p.x + p.y, e = h - xy * xy, g = a - b;
    const Field f = c + c + g;
    return {e * f, g * h, f * g, e * h};
}

// Whether eight times the point is the identity, the only one with x = 0 and y = z.
bool has_small_order(const Point& point) {
    const Point eight = doubled(doubled(doubled(point)));
    return equal(eight.x, kZero) && equal(eight.y, eight.z);
}

void encode(const Point& point, std::uint8_t* bytes) {
    const Field share = inverse(point.z);
    const Field x = reduced(point.x * share), y = reduced(point.y * share);
    for (int i = 0; i < 32; ++i) bytes[i] = static_cast<std::uint8_t>(y.w[i / 4] >> 8 * (i % 4));
    if (bit(x, 0)) bytes[31] |= 0x80;
}

}  // namespace

bool ed25519_verify(const std::uint8_t* key, const std::uint8_t* message, std::size_t bytes,
                    const std::uint8_t* signature) {
    static const Curve curve;
    Point owner;
    if (!decode(curve, key, &owner) || has_small_order(owner)) return false;
    const Number256 s = from_bytes(signature + 32);
    if (!less(s, kOrder)) return false;

    Sha512 hash;
    hash.add(signature, 32);
    hash.add(key, 32);
    hash.add(message, bytes);
    const Number256 k = modulo_order(hash.digest().data());

    // R must be s base - k owner; both products are made at once.
    const Point minus{kZero - owner.x, owner.y, owner.z, kZero - owner.t};
    const Point both = sum(curve, curve.base, minus);
    Point found = kIdentity;
    for (int place = 252; place >= 0; --place) {
        found = doubled(found);
        const bool of_s = bit(s, place), of_k = bit(k, place);
        if (of_s || of_k)
            found = sum(curve, found, of_s && of_k ? both : of_s ? curve.base : minus);
    }
    if (has_small_order(found)) return false;
    std::uint8_t encoded[32];
    encode(found, encoded);
    return std::memcmp(encoded, signature, sizeof encoded) == 0;
}

}  // namespace edgetl::capi
