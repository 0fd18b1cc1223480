// Head updates (.etlh), as edgetl/bundle/delta.py describes them: proved to be signed, found to be
// for this bundle, made into a head, and put in place. Nothing of a file is believed, and but for
// its lengths nothing read, before its signature was verified.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string_view>

#include "boundary.h"
#include "bundle.h"
#include "delta_rows.h"
#include "ed25519.h"
#include "files.h"
#include "learner.h"
#include "learning.h"
#include "sha2.h"

namespace edgetl::capi {
namespace {

constexpr unsigned char kMagic[] = {0x89, 'E', 'T', 'L', 'H', 0x0d, 0x0a, 0x1a};
constexpr char kPrefix[] = "edgetl.head-update.v1\0";  // with the NUL that ends it: two
constexpr std::size_t kHeader = 32, kSeal = 64, kKeyId = 8;
constexpr std::uint32_t kMostManifest = 1u << 20, kMostArrays = 1u << 30;
constexpr std::uint32_t kFormat = 1, kSigned = 1;
static_assert(sizeof kPrefix == 23, "the text and two NULs");

[[noreturn]] void unsigned_file(const std::string& text) {
    throw Failure(EDGETL_SIGNATURE, text);
}

[[noreturn]] void wrong_base(const std::string& text) {
    throw Failure(EDGETL_BASE, text);
}

[[noreturn]] void corrupt(const std::string& text) {
    throw Failure(EDGETL_CORRUPT, "the update " + text);
}

std::uint32_t number_at(const unsigned char* data, std::size_t at) {
    std::uint32_t value = 0;
    std::memcpy(&value, data + at, sizeof value);
    return value;
}

struct Parts {
    std::string manifest;
    const unsigned char* arrays;
    std::size_t array_bytes;
};

// The signed parts of a file.
Parts unseal(const unsigned char* data, std::size_t bytes, const std::uint8_t* key) {
    if (bytes < kHeader || std::memcmp(data, kMagic, sizeof kMagic) != 0)
        unsigned_file("this is no head update: " + std::to_string(bytes) +
                      " bytes, not an .etlh file");
    const std::uint32_t manifest = number_at(data, 24), arrays = number_at(data, 28);
    if (number_at(data, 12) != kSigned) unsigned_file("the update is not signed");
    if (manifest > kMostManifest || arrays > kMostArrays ||
        bytes != std::uint64_t{kHeader} + manifest + arrays + kSeal)
        unsigned_file("the update was changed or cut short");
    const std::size_t content = bytes - kSeal;
    std::string message(kPrefix, sizeof kPrefix);
    message.append(reinterpret_cast<const char*>(data), content);
    if (!ed25519_verify(key, bytes_of(message), message.size(), data + content)) {
        const auto id = sha256(key, 32);
        unsigned_file(std::memcmp(id.data(), data + 16, kKeyId) == 0
                          ? "the update was changed: the signature does not match its content"
                          : "the update is signed by the key " + hexadecimal(data + 16, kKeyId) +
                                ", trusted is " + hexadecimal(id.data(), kKeyId));
    }
    if (number_at(data, 8) != kFormat)
        throw Failure(EDGETL_UNSUPPORTED,
                      "the update has a format that this version does not know");
    return {message.substr(sizeof kPrefix + kHeader, manifest), data + kHeader + manifest, arrays};
}

std::vector<std::string> texts(const Json& list) {
    std::vector<std::string> result;
    for (const Json& item : list.items("labels")) {
        result.push_back(item.text("label"));
        if (result.back().find('\0') != std::string::npos) corrupt("has a label with a NUL in it");
    }
    std::vector<std::string> sorted = result;
    std::sort(sorted.begin(), sorted.end());
    if (result.size() < 2 || std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end())
        corrupt("needs at least 2 labels, all different");
    return result;
}

// A head as updates see it: its stored arrays with labels in any case.
std::string normal_bytes(const edgetl_head& head) {
    if (!head.labels.empty()) return head_bytes(head);
    edgetl_head copy(head);
    for (std::size_t c = 0; c < head.classes; ++c)
        copy.labels.push_back(static_cast<std::int64_t>(c));
    return head_bytes(copy);
}

// The bytes of the head that the update was made from: the one in use, the one that was
// shipped, or the one that the last update replaced.
std::string find_base(const edgetl_bundle& bundle, const Json& content) {
    const TaskRecord& task = bundle.manifest.task;
    const std::string& wanted = content.at("base").text("base");
    const std::vector<std::string> labels = texts(content.at("base_labels"));
    const auto matches = [&](const std::string& bytes) {
        return digest_of(read_arrays(bytes_of(bytes), bytes.size())) == wanted;
    };
    std::string bytes = normal_bytes(bundle.head);
    if (labels == task.labels && matches(bytes)) return bytes;
    const auto stored = [&](const std::string& name) {
        const std::string file = proved_file(bundle.folder, bundle.manifest, name);
        bytes = normal_bytes(*read_head(bytes_of(file), file.size()));
        return matches(bytes);
    };
    if (labels == task.base_labels && task.base_arrays != task.arrays && stored(task.base_arrays))
        return bytes;
    if (task.previous && labels == task.previous->labels && stored(task.previous->arrays))
        return bytes;
    wrong_base("the update is for another head than the ones that the bundle has");
}

void check_meant(const edgetl_bundle& bundle, const Json& content) {
    const Manifest& manifest = bundle.manifest;
    if (content.at("task").text("task") != manifest.task.name)
        wrong_base("the update is for another task");
    if (content.at("backbone").text("backbone") != manifest.graph_fingerprint)
        wrong_base("the update is for another network");
    if (content.at("preprocess").text("preprocess") != manifest.preprocess_digest)
        wrong_base("the update is for photos prepared otherwise than the bundle does");
    const std::int64_t number = content.at("generation").integer("generation");
    if (number <= manifest.task.applied)
        throw Failure(EDGETL_STALE, "the update has the number " + std::to_string(number) + ", " +
                                        std::to_string(manifest.task.applied) +
                                        " was applied already");
}

std::unique_ptr<edgetl_head> make_head(const edgetl_bundle& bundle, const Json& content,
                                       const Parts& parts) {
    const std::string base = find_base(bundle, content);
    const std::vector<Array> known = read_arrays(bytes_of(base), base.size());
    const std::vector<MadeArray> made =
        decode_rows(read_arrays(parts.arrays, parts.array_bytes), known);
    if (digest_of(as_arrays(made)) != content.at("result").text("result"))
        corrupt("makes another head than it should");
    ArrayWriter file;
    for (const Array& array : as_arrays(made)) file.add(array.name, array);
    const std::string bytes = file.bytes();
    auto head = read_head(bytes_of(bytes), bytes.size());
    const std::string& kind = content.at("kind").text("kind");
    if (head->kind == EDGETL_LINEAR && bundle.head.kind <= EDGETL_LDA)
        head->kind = bundle.head.kind;
    head->names = texts(content.at("labels"));
    if (kind != kind_name(bundle.head.kind) || head->kind != bundle.head.kind ||
        head->classes != head->names.size() || head->features != bundle.manifest.dim)
        corrupt("makes a head that does not fit its labels or the bundle");
    return head;
}

// Novelty with classes at other places; what is of a class that went goes too. Rows of an array X
// are of the classes in X_codes.
std::vector<MadeArray> moved_novelty(const std::vector<Array>& novelty,
                                     const std::vector<std::int64_t>& places) {
    constexpr std::string_view ending = "_codes";
    const auto made_of = [](const Array& array) {
        return MadeArray{array.name, array.stored, array.shape, {}};
    };
    const auto append = [](MadeArray& to, const void* data, std::size_t bytes) {
        if (bytes > 0) to.bytes.append(static_cast<const char*>(data), bytes);
    };
    std::vector<MadeArray> result;
    std::vector<std::string> done;
    for (const Array& codes : novelty) {
        const std::size_t length = codes.name.size();
        if (length < ending.size() || codes.name.substr(length - ending.size()) != ending) continue;
        const std::string name = codes.name.substr(0, length - ending.size());
        const auto rows = std::find_if(novelty.begin(), novelty.end(),
                                       [&](const Array& array) { return array.name == name; });
        if (rows == novelty.end()) continue;
        if (codes.type != Number::kI64 || codes.shape.size() != 1 || rows->shape.empty() ||
            rows->shape[0] != codes.count)
            throw Failure(EDGETL_CORRUPT, "what tells novelty is not of one class per row");
        MadeArray made_codes = made_of(codes), made_rows = made_of(*rows);
        const std::size_t bytes =
            codes.count == 0
                ? 0
                : rows->count / codes.count * static_cast<std::size_t>(rows->stored->width);
        std::uint64_t kept = 0;
        for (std::size_t i = 0; i < codes.count; ++i) {
            std::int64_t code = 0;
            std::memcpy(&code, codes.data + i * sizeof code, sizeof code);
            if (code < 0 || static_cast<std::uint64_t>(code) >= places.size())
                throw Failure(EDGETL_CORRUPT, "what tells novelty is of a class that is not there");
            code = places[static_cast<std::size_t>(code)];
            if (code < 0) continue;
            append(made_codes, &code, sizeof code);
            append(made_rows, rows->data + i * bytes, bytes);
            ++kept;
        }
        made_codes.shape[0] = made_rows.shape[0] = kept;
        done.insert(done.end(), {codes.name, rows->name});
        result.push_back(std::move(made_codes));
        result.push_back(std::move(made_rows));
    }
    for (const Array& array : novelty) {
        if (std::find(done.begin(), done.end(), array.name) != done.end()) continue;
        result.push_back(made_of(array));
        append(result.back(), array.data,
               array.count * static_cast<std::size_t>(array.stored->width));
    }
    return result;
}

// What the new head learns on from in the place of the old one, whose scatter is known: recursive
// least squares from another starting point. Of ridge alone; of LDA nothing tells how the samples
// that nobody has here scattered.
std::vector<NamedNumbers> statistics_for(const edgetl_bundle& bundle, const edgetl_head& head) {
    if (head.kind != EDGETL_RIDGE) return {};
    std::unique_ptr<edgetl_learner> learner;
    try {
        learner = make_learner(bundle.head, EDGETL_RIDGE, bundle.learning);
    } catch (const Failure& failure) {
        if (failure.status() != EDGETL_UNSUPPORTED) throw;
        return {};  // the old head could not learn either
    }
    RidgeStatistics& state = learner->ridge;
    const std::size_t dim = head.features;
    state.coef = head.wide;
    if (state.coef.empty()) state.coef.assign(head.narrow.begin(), head.narrow.end());
    state.intercept = state.target_mean = head.intercept;
    for (std::size_t c = 0; c < head.classes; ++c)
        for (std::size_t i = 0; i < dim; ++i)
            state.target_mean[c] += state.coef[c * dim + i] * state.mean[i];
    learner->head = head;
    return statistics_of(*learner);
}

// What was kept, for the new classes, to the new head. Statistics were the old head's, and go; a
// head that needs some and gets none does not learn on, for the kept samples are not what made it.
void keep_learning(const edgetl_bundle& bundle, const edgetl_head& head, NewHead& fresh) {
    if (bundle.learning.empty()) return;
    const std::vector<std::string>& before = bundle.manifest.task.labels;
    LearningFile file(bundle.learning, bundle.manifest.dim, before.size());
    bool moved = false;
    std::vector<std::int64_t> places;
    for (std::size_t c = 0; c < before.size(); ++c) {
        const auto at = std::find(head.names.begin(), head.names.end(), before[c]);
        places.push_back(at == head.names.end() ? -1 : at - head.names.begin());
        moved = moved || places.back() != static_cast<std::int64_t>(c);
    }
    const bool needs_statistics = head.kind == EDGETL_RIDGE || head.kind == EDGETL_LDA;
    fresh.same_learning = !moved && !file.has_statistics() && !needs_statistics;
    if (fresh.same_learning) return;
    const std::vector<NamedNumbers> statistics = statistics_for(bundle, head);
    if (needs_statistics && statistics.empty()) file.memory = Samples{file.memory.dim, {}, {}, {}};
    for (Samples* samples : {&file.memory, &file.guard}) {
        for (std::int64_t& code : samples->codes) code = places[static_cast<std::size_t>(code)];
        for (std::size_t i = samples->count(); i-- > 0;)
            if (samples->codes[i] < 0) samples->erase(i);
    }
    const std::vector<MadeArray> novelty = moved_novelty(file.others(), places);
    fresh.learning = learning_bytes(file.memory, file.guard, statistics, as_arrays(novelty));
}

// A share on kept samples, or null.
Json share_of(const Json& evidence, const char* name) {
    const Json& value = evidence.at(name);
    if (!value.is_null() && !(value.number(name) >= 0 && value.number(name) <= 1))
        corrupt("has an accuracy that is not from 0 to 1");
    return value;
}

void apply(const edgetl_bundle& bundle, const unsigned char* data, std::size_t bytes,
           const std::uint8_t* key) {
    check_learnable(bundle);
    const Parts parts = unseal(data, bytes, key);
    const Json content = Json::parse(parts.manifest);
    content.members("content");
    check_meant(bundle, content);
    const auto head = make_head(bundle, content, parts);
    const TaskRecord& task = bundle.manifest.task;
    const Json& evidence = content.at("evidence");
    const std::int64_t number = content.at("generation").integer("generation");
    NewHead fresh{head.get(), "", std::max(task.generation + 1, number), number,
                  evidence.at("samples").integer("samples")};
    if (fresh.samples < 0) corrupt("has a negative number of samples");
    fresh.by_update = true;
    fresh.accuracy_before = share_of(evidence, "accuracy_before");
    fresh.accuracy_after = share_of(evidence, "accuracy_after");
    keep_learning(bundle, *head, fresh);
    commit(bundle, fresh);
}

}  // namespace
}  // namespace edgetl::capi

namespace capi = edgetl::capi;

extern "C" edgetl_status edgetl_delta_apply(const edgetl_bundle* bundle, const void* delta,
                                            size_t bytes, const uint8_t* public_key,
                                            edgetl_bundle** updated) {
    if (updated != nullptr) *updated = nullptr;
    return capi::guarded([&] {
        if (bundle == nullptr || delta == nullptr || public_key == nullptr)
            capi::refuse("bundle, delta or public_key is NULL");
        capi::apply(*bundle, static_cast<const unsigned char*>(delta), bytes, public_key);
        if (updated != nullptr)
            *updated =
                capi::open_bundle(bundle->folder, bundle->manifest.task.name.c_str()).release();
    });
}
