// Fuzzes what the C library reads of bundles beyond heads: manifests, what heads learn on from,
// the rows of updates, and signatures. Given as they are, or made from good ones with places
// changed. All must be taken or refused.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "arrays.h"
#include "boundary.h"
#include "capi_files.h"
#include "delta_rows.h"
#include "ed25519.h"
#include "edgetl.h"
#include "input.h"
#include "json.h"
#include "manifest.h"
#include "sha2.h"

namespace {

using namespace edgetl::capi;

// Memory of just that size: sanitizers see every read beyond.
struct Exact {
    std::vector<unsigned char> bytes;
    explicit Exact(const std::string& text) : bytes(text.begin(), text.end()) {
        bytes.shrink_to_fit();
    }
    const unsigned char* data() const {
        static const unsigned char nothing = 0;
        return bytes.empty() ? &nothing : bytes.data();
    }
};

// Runs what may throw a Failure that a file can cause, and nothing else.
template <typename Body>
bool taken(Body&& body) {
    const edgetl_status status = guarded(body);
    fuzz::require(status == EDGETL_OK || status == EDGETL_CORRUPT || status == EDGETL_UNSUPPORTED ||
                      status == EDGETL_INVALID,
                  "a file is taken, corrupt or not supported");
    return status == EDGETL_OK;
}

// A few places of a text changed.
void damage(fuzz::Input& input, std::string& text, const char* tokens, std::size_t count) {
    for (std::int64_t left = input.between(0, 4); left > 0 && !text.empty(); --left) {
        const auto at =
            static_cast<std::size_t>(input.between(0, static_cast<std::int64_t>(text.size()) - 1));
        switch (input.between(0, 3)) {
            case 0:
                text[at] = tokens[static_cast<std::size_t>(
                    input.between(0, static_cast<std::int64_t>(count) - 1))];
                break;
            case 1:
                text[at] = input.take<char>();
                break;
            case 2:
                text.insert(at, text.substr(at, static_cast<std::size_t>(input.between(1, 60))));
                break;
            default:
                text.erase(at, static_cast<std::size_t>(input.between(1, 20)));
        }
    }
}

std::string rest(fuzz::Input& input) {
    std::string text;
    while (input.left() > 0) text += input.take<char>();
    return text;
}

// ---- Manifests ----

std::string good_manifest() {
    const std::string digest(64, 'a');
    const auto file = [&](const char* name) {
        return "\"" + std::string(name) + "\":{\"sha256\":\"" + digest + "\",\"size\":12}";
    };
    return "{\"format\":3,\"digest\": \"" + std::string(64, '0') +
           "\",\"labels\":[\"a\",\"\\u00e9\",\"c\"],\"preprocess\":{\"size\":32,\"resize\":40,"
           "\"interpolation\":\"bicubic\",\"fit\":\"squash\",\"layout\":\"nhwc\",\"decode\":"
           "\"full\",\"dtype\":\"uint8\",\"mean\":[0.48145466,0.5,1e-3],\"std\":[0.25,0.5,1]},"
           "\"backbone\":{\"name\":\"n\",\"dim\":2,\"graph\":\"g.onnx\",\"fingerprint\":\"f\"},"
           "\"task\":\"main\",\"head\":{\"kind\":\"ridge\",\"arrays\":\"h2\"},\"learning\":\"l\","
           "\"update\":{\"generation\":2,\"base\":\"" +
           digest +
           "\",\"base_arrays\":\"h\",\"base_head\":\"ridge\",\"base_labels\":[\"a\",\"b\"],"
           "\"samples\":3,\"applied\":1},\"tasks\":{\"x\":{\"labels\":[\"a\",\"b\"],\"head\":"
           "{\"kind\":\"knn\",\"arrays\":\"h\"},\"learning\":null,\"update\":null}},\"files\":{" +
           file("h") + "," + file("h2") + "," + file("l") + "," + file("g.onnx") +
           "},\"provenance\":{},\"evidence\":null,\"export\":{\"fused\":false}}";
}

void seal(std::string& text) {
    const std::size_t at = text.find("\"digest\": \"");
    if (at == std::string::npos || text.size() < at + 75) return;
    text.replace(at + 11, 64, 64, '0');
    text.replace(at + 11, 64, sha256_hex(text.data(), text.size()));
}

void manifest(fuzz::Input& input, bool whole) {
    const bool main = input.coin();
    std::string text = whole ? rest(input) : good_manifest();
    static const char tokens[] = "{}[]\",:0123456789 \\u-.eE/ntf";
    if (!whole) damage(input, text, tokens, sizeof tokens - 1);
    seal(text);  // what nobody would do by chance
    Manifest found;
    if (!taken([&] { found = read_manifest(text, main ? nullptr : "x"); })) return;
    fuzz::require(found.task.labels.size() >= 2 && found.dim >= 1, "a manifest names classes");
    std::size_t bytes = 0;
    fuzz::require(edgetl_preprocess_bytes(&found.preprocess, &bytes) == EDGETL_OK,
                  "a manifest's preprocessing is one");
    // Written and read again it says the same.
    const Change change{EDGETL_RIDGE, {"p", "q\n"}, 7, 2, 9, "h7", FileRecord::of("x"), "", {}};
    const Manifest again = read_manifest(changed_manifest(found, change), found.task.name.c_str());
    fuzz::require(again.task.generation == 7 && again.task.labels == change.labels &&
                      again.task.base_labels == found.task.base_labels &&
                      again.preprocess_digest == found.preprocess_digest,
                  "a changed manifest is read again");
}

// ---- What heads learn on from ----

std::string entry(const std::string& name, const std::string& type, const std::string& shape,
                  std::size_t begin, std::size_t end) {
    return "\"" + name + "\":{\"dtype\":\"" + type + "\",\"shape\":[" + shape +
           "],\"data_offsets\":[" + std::to_string(begin) + "," + std::to_string(end) + "]}";
}

std::string good_learning(bool statistics) {
    const std::vector<std::uint16_t> halves{0x3c00, 0x0000, 0x4000, 0x3800, 0xbc00, 0x3c00};
    const std::vector<double> numbers{1,   0,     1, 0.5, -1, 2, 0.25, -0.125, 3,
                                      0.5, -0.25, 1, 0,   0,  0, 0,    0,      3};
    std::string data = check::raw(std::vector<std::int64_t>{0, 1, 2}) +
                       check::raw(std::vector<float>{1, 2, 1}) + check::raw(halves);
    std::string header =
        "{" + entry("codes", "I64", "3", 0, 24) + "," + entry("weights", "F32", "3", 24, 36) + "," +
        entry("features", "F16", "3,2", 36, 48) + "," + entry("guard_codes", "I64", "0", 48, 48) +
        "," + entry("guard_features", "F16", "0,2", 48, 48);
    if (statistics) {
        data += check::raw(numbers);
        header += "," + entry("statistics.inverse", "F64", "3", 48, 72) + "," +
                  entry("statistics.coef", "F64", "3,2", 72, 120) + "," +
                  entry("statistics.intercept", "F64", "3", 120, 144) + "," +
                  entry("statistics.mean", "F64", "2", 144, 160) + "," +
                  entry("statistics.target_mean", "F64", "3", 160, 184) + "," +
                  entry("statistics.total", "F64", "1", 184, 192);
    }
    return check::safetensors(header + "}", data);
}

void learning(fuzz::Input& input, bool whole) {
    const auto kind = static_cast<std::int32_t>(input.between(EDGETL_SOFTMAX, EDGETL_LDA));
    const bool statistics = input.coin();
    std::vector<float> features;
    for (int i = 0; i < 4; ++i) features.push_back(input.number<float>(-2, 2));
    const std::int64_t labels[] = {input.between(-6, 8), input.take<std::int64_t>()};
    const double weights[] = {input.number<double>(0.1, 4), 1};
    std::string file = whole ? rest(input) : good_learning(statistics);
    static const char tokens[] = "\0\x7f\x80\xff{}[]\",:0123456789";
    if (!whole) damage(input, file, tokens, sizeof tokens - 1);
    const Exact exact(file);
    const std::string arrays = check::head_file("F64");
    edgetl_head* head = nullptr;
    edgetl_head_load_memory(arrays.data(), arrays.size(), &head);
    edgetl_learner* learner = nullptr;
    const auto made = edgetl_learner_create(head, kind, exact.data(), exact.bytes.size(), &learner);
    fuzz::require((made == EDGETL_OK) == (learner != nullptr), "a learner or a refusal");
    fuzz::require(made != EDGETL_INTERNAL && made != EDGETL_INVALID, "a file is judged");
    if (learner != nullptr) {
        const auto learned =
            edgetl_learner_learn_labels(learner, features.data(), 2, 2, labels, weights);
        fuzz::require(
            learned == EDGETL_OK || learned == EDGETL_INVALID || learned == EDGETL_NOT_FINITE,
            "samples are learned or refused");
        edgetl_learner_rehearse(learner, 2);
        edgetl_learner_forget_label(learner, 0);
        edgetl_head* result = nullptr;
        fuzz::require(edgetl_learner_head(learner, &result) == EDGETL_OK, "a learner has a head");
        const std::size_t classes = edgetl_head_classes(result);
        fuzz::require(classes >= 2 && classes <= 5, "classes come and go one by one");
        std::vector<double> out(classes);
        const float query[] = {0.5f, -0.25f};
        const auto scored = edgetl_head_probabilities(result, query, 1, 2, out.data(), out.size());
        fuzz::require(scored == EDGETL_OK || scored == EDGETL_NOT_FINITE, "a learned head scores");
        double sum = 0;
        for (const double value : out) sum += value;
        fuzz::require(scored != EDGETL_OK || std::abs(sum - 1) < 1e-9, "probabilities sum to 1");
        edgetl_head_free(result);
    }
    edgetl_learner_free(learner);
    edgetl_head_free(head);
}

// ---- Updates ----

std::string good_rows() {
    const std::vector<std::int32_t> runs{2, 1, 8, 0, 1, 0, -1, 1, 3, 1, 1, -1};
    std::string data = check::raw(runs) + check::raw(std::vector<std::int32_t>{-9});
    data += std::string(2, '\x05') + std::string(1, '\x0b') + std::string(8, '\x3f');
    return check::safetensors("{" + entry("head.coef/runs", "I32", "4,3", 0, 48) + "," +
                                  entry("head.coef/step", "I32", "1", 48, 52) + "," +
                                  entry("head.coef/data", "U8", "11", 52, 63) + "," +
                                  entry("head.intercept/keep", "U8", "0", 63, 63) + "," +
                                  entry("other", "BOOL", "0", 63, 63) + "}",
                              data);
}

void rows(fuzz::Input& input, bool whole) {
    const std::string base = check::head_file("F32");
    std::string file = whole ? rest(input) : good_rows();
    static const char tokens[] = "\0\x01\x7f\x80\xff{}[]\",:0123456789";
    if (!whole) damage(input, file, tokens, sizeof tokens - 1);
    const Exact parts(file), known(base);
    std::vector<MadeArray> made;
    if (!taken([&] {
            made = decode_rows(read_arrays(parts.data(), parts.bytes.size()),
                               read_arrays(known.data(), known.bytes.size()));
        }))
        return;
    for (const Array& array : as_arrays(made)) {
        std::uint64_t bytes = array.stored->width;
        for (const std::uint64_t length : array.shape) bytes *= length;
        fuzz::require(bytes == array.count * array.stored->width,
                      "an array is as large as it says");
    }
    fuzz::require(digest_of(as_arrays(made)).size() == 64, "arrays have a digest");
}

void signature(fuzz::Input& input) {
    std::uint8_t key[32], sign[64];
    for (std::uint8_t& byte : key) byte = input.take<std::uint8_t>();
    for (std::uint8_t& byte : sign) byte = input.take<std::uint8_t>();
    const Exact text(rest(input));
    fuzz::require(!ed25519_verify(key, text.data(), text.bytes.size(), sign),
                  "nobody signs by chance");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    const bool whole = input.between(0, 3) == 0;
    switch (input.between(0, 9)) {
        case 0:
            signature(input);  // costs more than all others
            break;
        case 1:
        case 2:
        case 3:
            manifest(input, whole);
            break;
        case 4:
        case 5:
        case 6:
            learning(input, whole);
            break;
        default:
            rows(input, whole);
    }
    return 0;
}
