// Verification of ed25519 signatures (RFC 8032, 5.1.7).
//
// Only public data is handled, so nothing is done against leaks by timing: don't build signing on
// these functions. Stricter than the RFC, where implementations differ: S must be below the order
// of the group, the encodings of key and R canonical, and neither a point of small order, so that
// there is no second signature for a message and no key that fits many. The equation is checked
// without the cofactor, as OpenSSL does.
#pragma once

#include <cstddef>
#include <cstdint>

namespace edgetl::capi {

// Whether `signature` (64 bytes) is of this message by the owner of `key` (32 bytes).
bool ed25519_verify(const std::uint8_t* key, const std::uint8_t* message, std::size_t bytes,
                    const std::uint8_t* signature);

}  // namespace edgetl::capi
