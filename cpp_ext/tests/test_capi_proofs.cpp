// What the C library proves files by: SHA-2 and ed25519 with published vectors, and JSON that is
// taken and written as Python does.
#include <algorithm>
#include <string>
#include <vector>

#include "boundary.h"
#include "check.h"
#include "ed25519.h"
#include "json.h"
#include "sha2.h"

namespace {

using namespace edgetl::capi;
using Bytes = std::vector<std::uint8_t>;

Bytes unhex(const std::string& text) {
    Bytes bytes;
    for (std::size_t i = 0; i < text.size(); i += 2)
        bytes.push_back(static_cast<std::uint8_t>(std::stoi(text.substr(i, 2), nullptr, 16)));
    return bytes;
}

std::string sha512_hex(const std::string& text) {
    Sha512 hash;
    hash.add(text.data(), text.size());
    const auto digest = hash.digest();
    return hexadecimal(digest.data(), digest.size());
}

struct Vector {
    const char *key, *message, *signature;
};

// RFC 8032, 7.1: tests 1, 2, 3 and SHA(abc).
const Vector kVectors[] = {
    {"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
     "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"},
    {"3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
     "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"},
    {"fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
     "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"},
    {"ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
     "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
     "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
     "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b589"
     "09351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704"},
};

bool verify(const Bytes& key, const Bytes& message, const Bytes& signature) {
    return ed25519_verify(key.data(), message.data(), message.size(), signature.data());
}

// Adds to a number of little-endian bytes.
void add(Bytes& bytes, std::size_t first, const Bytes& more) {
    unsigned carry = 0;
    for (std::size_t i = 0; i < more.size(); ++i) {
        carry += bytes[first + i] + more[i];
        bytes[first + i] = static_cast<std::uint8_t>(carry);
        carry >>= 8;
    }
}

edgetl_status refused(const std::string& text) {
    try {
        Json::parse(text);
    } catch (const Failure& failure) {
        return failure.status();
    }
    return EDGETL_OK;
}

}  // namespace

TEST(hashes_are_those_of_fips_180) {
    const std::string abc = "abc";
    CHECK_EQUAL(sha256_hex(abc.data(), abc.size()),
                std::string("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
                "");
    CHECK_EQUAL(sha512_hex(abc),
                std::string("ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
                            "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"),
                "");
    const std::string million(1000000, 'a');
    CHECK_EQUAL(sha256_hex(million.data(), million.size()),
                std::string("cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
                "");
    // In parts of every length around a block.
    for (std::size_t part = 1; part < 130; ++part) {
        Sha512 hash;
        for (std::size_t at = 0; at < 1000; at += part)
            hash.add(million.data(), std::min<std::size_t>(part, 1000 - at));
        const auto digest = hash.digest();
        CHECK_EQUAL(hexadecimal(digest.data(), digest.size()), sha512_hex(million.substr(0, 1000)),
                    std::to_string(part));
    }
}

TEST(signatures_of_rfc_8032_are_good_and_changed_ones_are_not) {
    for (const Vector& vector : kVectors) {
        const Bytes key = unhex(vector.key), message = unhex(vector.message);
        const Bytes signature = unhex(vector.signature);
        CHECK(verify(key, message, signature));
        for (std::size_t i = 0; i < 64; ++i) {
            Bytes changed = signature;
            changed[i] = static_cast<std::uint8_t>(changed[i] ^ 1 << i % 8);
            CHECK(!verify(key, message, changed));
        }
        for (std::size_t i = 0; i < 32; ++i) {
            Bytes changed = key;
            changed[i] = static_cast<std::uint8_t>(changed[i] ^ 1 << i % 8);
            CHECK(!verify(changed, message, signature));
        }
        Bytes longer = message;
        longer.push_back(0);
        CHECK(!verify(key, longer, signature));
    }
}

TEST(there_is_one_signature_and_one_encoding) {
    const Vector& vector = kVectors[1];
    const Bytes key = unhex(vector.key), message = unhex(vector.message);
    const Bytes order = unhex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
    Bytes signature = unhex(vector.signature);
    for (int turn = 0; turn < 8; ++turn) {  // S + L, S + 2 L, ... fit into 32 bytes
        add(signature, 32, order);
        CHECK(!verify(key, message, signature));
    }
    // Points of small order as a key: with S = 0 and R the identity any message would do.
    const Bytes identity =
        unhex("0100000000000000000000000000000000000000000000000000000000000000");
    const char* small[] = {"0100000000000000000000000000000000000000000000000000000000000000",
                           "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
                           "0000000000000000000000000000000000000000000000000000000000000080",
                           "0000000000000000000000000000000000000000000000000000000000000000",
                           "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
                           "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
                           "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
                           "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
                           // And the same points in encodings that are not canonical.
                           "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
                           "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
                           "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
                           "0100000000000000000000000000000000000000000000000000000000000080"};
    for (const char* point : small) {
        Bytes forged = identity;
        forged.resize(64, 0);
        CHECK(!verify(unhex(point), message, forged));
        CHECK(!verify(unhex(point), message, unhex(vector.signature)));
        // As R under a good key.
        Bytes mixed = unhex(point);
        mixed.resize(64, 0);
        CHECK(!verify(key, message, mixed));
    }
    // y = 2 is on no point of the curve.
    CHECK(!verify(unhex("02" + std::string(62, '0')), message, unhex(vector.signature)));
}

TEST(json_is_written_as_it_was_read) {
    const std::string text =
        "{\n  \"a\": [\n    1,\n    -0.5e-7,\n    \"\\\"\\\\\\n\\u001f/\xc3\xa9\xf0\x9f\x8c\xbc\"\n"
        "  ],\n  \"b\": {},\n  \"c\": [],\n  \"d\": {\n    \"x\": null,\n    \"y\": true,\n"
        "    \"z\": false\n  }\n}";
    CHECK_EQUAL(Json::parse(text).dump(), text, "");
    CHECK_EQUAL(Json::parse(" [ \"\\u00e9\\ud83c\\udf3c\\/\\b\" ] ").dump(),
                std::string("[\n  \"\xc3\xa9\xf0\x9f\x8c\xbc/\\b\"\n]"), "");
    CHECK_EQUAL(Json::parse("{\"b\": [1, 2.0], \"a\": {}}").compact(),
                std::string("{\"a\":{},\"b\":[1,2.0]}"), "");
    CHECK_EQUAL(Json::parse("0.26862954473495483").number("n"), 0.26862954473495483, "");
    CHECK_EQUAL(Json::parse("9007199254740992").integer("n"), std::int64_t{1} << 53, "");
}

TEST(what_is_not_json_is_refused) {
    for (const char* text : {"",
                             " ",
                             "{",
                             "[1,]",
                             "{\"a\":1,}",
                             "{\"a\" 1}",
                             "{a:1}",
                             "01",
                             "-",
                             "1.",
                             ".5",
                             "1e",
                             "+1",
                             "NaN",
                             "Infinity",
                             "nul",
                             "truex",
                             "\"",
                             "\"\\x\"",
                             "\"\\u12\"",
                             "\"\\ud800\"",
                             "\"\\udc00\"",
                             "\"\\ud800\\u0041\"",
                             "\"\n\"",
                             "\"\x80\"",
                             "\"\xc0\x80\"",
                             "\"\xed\xa0\x80\"",
                             "\"\xf4\x90\x80\x80\"",
                             "\"\xe2\x82\"",
                             "[] []",
                             "\xef\xbb\xbf{}",
                             "{\"a\":1,\"b\":2,\"a\":3}",
                             "{\"a\":1,\"\\u0061\":2}",
                             "'a'",
                             "[1 2]",
                             "{1:2}"})
        CHECK_EQUAL(refused(text), EDGETL_CORRUPT, text);
    CHECK_EQUAL(refused(std::string(40, '[') + std::string(40, ']')), EDGETL_UNSUPPORTED, "");
    CHECK_EQUAL(refused(std::string(1 << 20, '[')), EDGETL_UNSUPPORTED, "");
    std::string many = "[0";
    for (int i = 0; i < 1 << 18; ++i) many += ",0";
    CHECK_EQUAL(refused(many + "]"), EDGETL_UNSUPPORTED, "");
    for (const char* text : {"1e400", "1.5", "9007199254740994", "1e3", "\"1\"", "null"})
        CHECK_THROWS(Failure, Json::parse(text).integer("n"));
}
