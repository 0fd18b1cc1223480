// Reads manifests of formats 1 to 3 and writes changed ones; see manifest.h.
#include "manifest.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <limits>
#include <string_view>

#include "boundary.h"
#include "head.h"
#include "sha2.h"

namespace edgetl::capi {
namespace {

constexpr std::size_t kDigits = 64;
constexpr char kMain[] = "main";
constexpr std::string_view kDigestKey = "\"digest\": \"";

[[noreturn]] void corrupt(const std::string& text) {
    throw Failure(EDGETL_CORRUPT, "the manifest " + text);
}

bool is_digest(const std::string& text) {
    return text.size() == kDigits &&
           text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

// The manifest proves its own bytes: the digest is of them with its own digits set to zero.
void check_digest(const Json& content, const std::string& bytes) {
    const std::size_t key = bytes.find(kDigestKey), at = key + kDigestKey.size();
    const std::string& stated = content.at("digest").text("digest");
    if (key == std::string::npos || bytes.compare(at, kDigits, stated) != 0 || !is_digest(stated))
        corrupt("has no digest of itself");
    std::string blank = bytes;
    blank.replace(at, kDigits, kDigits, '0');
    if (sha256_hex(blank.data(), blank.size()) != stated)
        corrupt("was changed after it was written: its digest is wrong");
}

// A file of the bundle's own folder.
const std::string& plain_name(const std::string& name) {
    if (name.empty() || name == "." || name == ".." || name == kManifest ||
        name.find_first_of(std::string("/\\:\0", 4)) != std::string::npos)
        corrupt("names a file that is not a plain name");
    return name;
}

std::int32_t kind_of(const std::string& name) {
    for (std::int32_t kind = EDGETL_SOFTMAX; kind <= EDGETL_KNN; ++kind)
        if (name == kind_name(kind)) return kind;
    throw Failure(EDGETL_UNSUPPORTED, "the head is of a kind that this version does not know");
}

std::vector<std::string> labels_of(const Json& list) {
    std::vector<std::string> labels;
    for (const Json& item : list.items("labels")) labels.push_back(item.text("label"));
    std::vector<std::string> sorted = labels;
    std::sort(sorted.begin(), sorted.end());
    if (labels.size() < 2 || std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end())
        corrupt("needs at least 2 labels, all different");
    for (const std::string& label : labels)
        if (label.find('\0') != std::string::npos) corrupt("has a label with a NUL in it");
    return labels;
}

std::int32_t choice(const Json& preprocess, const char* name, const char* first,
                    const char* second) {
    const std::string& text = preprocess.at(name).text(name);
    if (text != first && text != second)
        throw Failure(EDGETL_UNSUPPORTED, std::string("preprocess.") + name +
                                              " has a value that this version does not know");
    return text == second ? 1 : 0;
}

void three(const Json& list, const char* name, float* out) {
    const auto& items = list.items(name);
    if (items.size() != 3) corrupt(std::string("has not three numbers for preprocess.") + name);
    for (int c = 0; c < 3; ++c) {
        const double value = items[c].number(name);
        if (std::abs(value) > std::numeric_limits<float>::max())
            corrupt(std::string("has a number beyond float32 in preprocess.") + name);
        out[c] = static_cast<float>(value);
    }
}

edgetl_preprocess_options options_of(const Json& preprocess) {
    preprocess.members("preprocess");
    edgetl_preprocess_options options{};
    options.struct_size = sizeof options;
    const auto side = [&](const char* name) {
        return static_cast<std::int32_t>(
            std::clamp<std::int64_t>(preprocess.at(name).integer(name), 0, 1 << 20));
    };
    options.size = side("size");
    options.resize = side("resize");
    options.interpolation = choice(preprocess, "interpolation", "bicubic", "bilinear");
    options.fit = choice(preprocess, "fit", "shortest", "squash");
    options.layout = choice(preprocess, "layout", "nchw", "nhwc");
    choice(preprocess, "decode", "full", "scaled");  // of JPEG files, not of frames
    if (preprocess.find("dtype") != nullptr)
        options.dtype =
            choice(preprocess, "dtype", "float32", "uint8") == 1 ? EDGETL_UINT8 : EDGETL_FLOAT32;
    if (options.dtype == EDGETL_UINT8 && options.layout != EDGETL_NHWC)
        corrupt("gives a graph uint8 that is not in nhwc");
    three(preprocess.at("mean"), "mean", options.mean);
    three(preprocess.at("std"), "std", options.std);
    std::size_t bytes = 0;
    if (edgetl_preprocess_bytes(&options, &bytes) != EDGETL_OK)
        corrupt(std::string("has a preprocessing that is none: ") + edgetl_last_error());
    return options;
}

const Json* present(const Json& object, const char* name) {
    const Json* found = object.find(name);
    return found == nullptr || found->is_null() ? nullptr : found;
}

PreviousHead previous_of(const Json& content) {
    PreviousHead previous;
    previous.generation = content.at("generation").integer("previous.generation");
    previous.kind = kind_of(content.at("head").text("previous.head"));
    previous.labels = labels_of(content.at("labels"));
    previous.arrays = plain_name(content.at("arrays").text("previous.arrays"));
    if (const Json* learning = present(content, "learning"))
        previous.learning = plain_name(learning->text("previous.learning"));
    previous.samples = content.at("samples").integer("previous.samples");
    if (previous.generation < 0 || previous.samples < 0)
        corrupt("has a replaced head that is none");
    return previous;
}

// The method that fitted the head to more than the samples which a device has, so that learning on
// would lose it; a signed update replaces such a head. As in edgetl/bundle/task_record.py.
std::string fixed_by(const Json& content, std::int64_t applied) {
    const Json* known = present(content, "evidence");
    known = known == nullptr ? present(content, "provenance") : present(*known, "extra");
    const Json* method = known == nullptr ? nullptr : present(*known, "method");
    if (applied > 0 || method == nullptr || method->type() != Json::Type::kObject) return "";
    const Json* learns = method->find("learns");
    if (learns == nullptr || learns->type() != Json::Type::kFalse) return "";
    const Json* name = method->find("name");
    return name == nullptr || name->type() != Json::Type::kText ? "?" : name->text("method.name");
}

TaskRecord task_of(const Json& content, const std::string& name) {
    TaskRecord task;
    task.name = name;
    task.labels = labels_of(content.at("labels"));
    const Json& head = content.at("head");
    task.kind = kind_of(head.at("kind").text("head.kind"));
    task.arrays = plain_name(head.at("arrays").text("head.arrays"));
    if (const Json* learning = present(content, "learning"))
        task.learning = plain_name(learning->text("learning"));
    task.base_arrays = task.arrays;
    task.base_kind = task.kind;
    task.base_labels = task.labels;
    if (const Json* update = present(content, "update")) {
        task.generation = update->at("generation").integer("update.generation");
        task.samples = update->at("samples").integer("update.samples");
        if (const Json* applied = update->find("applied"))  // manifests older than it lack it
            task.applied = applied->integer("update.applied");
        task.base = update->at("base").text("update.base");
        task.base_arrays = plain_name(update->at("base_arrays").text("update.base_arrays"));
        task.base_kind = kind_of(update->at("base_head").text("update.base_head"));
        task.base_labels = labels_of(update->at("base_labels"));
        if (task.generation < 0 || task.samples < 0 || task.applied < 0 || !is_digest(task.base))
            corrupt("has an update that is none");
        if (const Json* previous = present(*update, "previous"))
            task.previous = previous_of(*previous);
    }
    task.fixed_by = fixed_by(content, task.applied);
    return task;
}

TaskRecord find_task(const Json& content, std::int64_t format, const char* wanted) {
    const std::string main = format < 3 ? kMain : content.at("task").text("task");
    if (wanted == nullptr || main == wanted) return task_of(content, main);
    if (format >= 3)
        for (const auto& member : content.at("tasks").members("tasks"))
            if (member.first == wanted) {
                TaskRecord task = task_of(member.second, member.first);
                task.main = false;
                return task;
            }
    refuse("the bundle has no task '" + std::string(wanted).substr(0, 64) + "'");
}

std::string now() {
    const std::time_t seconds = std::time(nullptr);
    std::tm parts{};
#ifdef _WIN32
    gmtime_s(&parts, &seconds);
#else
    gmtime_r(&seconds, &parts);
#endif
    char text[40] = "";
    std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S+00:00", &parts);
    return text;
}

Json record_json(const FileRecord& record) {
    return Json::of_object({{"sha256", Json::of_text(record.sha256)},
                            {"size", Json::of_number(static_cast<std::int64_t>(record.size))}});
}

Json previous_json(const PreviousHead& previous) {
    return Json::of_object(
        {{"generation", Json::of_number(previous.generation)},
         {"head", Json::of_text(kind_name(previous.kind))},
         {"labels", Json::of_list(previous.labels)},
         {"arrays", Json::of_text(previous.arrays)},
         {"learning", previous.learning.empty() ? Json() : Json::of_text(previous.learning)},
         {"samples", Json::of_number(previous.samples)}});
}

Json update_json(const Manifest& manifest, const Change& change) {
    const TaskRecord& task = manifest.task;
    const std::string base = task.base.empty() ? manifest.file(task.base_arrays).sha256 : task.base;
    return Json::of_object(
        {{"generation", Json::of_number(change.generation)},
         {"base", Json::of_text(base)},
         {"base_arrays", Json::of_text(task.base_arrays)},
         {"base_head", Json::of_text(kind_name(task.base_kind))},
         {"base_labels", Json::of_list(task.base_labels)},
         {"applied", Json::of_number(change.applied)},
         {"samples", Json::of_number(change.samples)},
         {"accuracy_before", change.accuracy_before},
         {"accuracy_after", change.accuracy_after},
         {"created", Json::of_text(now())},
         {"previous", change.previous ? previous_json(*change.previous) : Json()}});
}

}  // namespace

FileRecord FileRecord::of(const std::string& content) {
    return {sha256_hex(content.data(), content.size()), content.size()};
}

std::vector<std::string> TaskRecord::files() const {
    std::vector<std::string> names{arrays, base_arrays};
    if (!learning.empty()) names.push_back(learning);
    if (!previous) return names;
    names.push_back(previous->arrays);
    if (!previous->learning.empty()) names.push_back(previous->learning);
    return names;
}

FileRecord Manifest::file(const std::string& name) const {
    const Json* record = content.at("files").find(name);
    if (record == nullptr) corrupt("has no hash of a file that it names");
    const std::int64_t size = record->at("size").integer("size");
    const std::string& sha256 = record->at("sha256").text("sha256");
    if (size < 0 || !is_digest(sha256)) corrupt("has a hash that is none");
    return {sha256, static_cast<std::uint64_t>(size)};
}

Manifest read_manifest(const std::string& bytes, const char* task) {
    Manifest manifest;
    manifest.content = Json::parse(bytes);
    manifest.bytes = bytes;
    const Json& content = manifest.content;
    content.members("content");
    manifest.format = content.at("format").integer("format");
    if (manifest.format < 1 || manifest.format > 3)
        throw Failure(EDGETL_UNSUPPORTED, "the manifest has format " +
                                              std::to_string(manifest.format) +
                                              ", this version reads 1 to 3");
    check_digest(content, bytes);
    for (const auto& member : content.at("files").members("files")) plain_name(member.first);
    const Json& backbone = content.at("backbone");
    const std::int64_t dim = backbone.at("dim").integer("backbone.dim");
    if (dim < 1 || dim > (1 << 24)) corrupt("has " + std::to_string(dim) + " features");
    manifest.dim = static_cast<std::size_t>(dim);
    manifest.graph = plain_name(backbone.at("graph").text("backbone.graph"));
    manifest.graph_fingerprint = backbone.at("fingerprint").text("backbone.fingerprint");
    const Json& preprocess = content.at("preprocess");
    manifest.preprocess = options_of(preprocess);
    const std::string compact = preprocess.compact();
    manifest.preprocess_digest = sha256_hex(compact.data(), compact.size());
    if (const Json* record = present(content, "export"))
        manifest.fused = record->at("fused").boolean("export.fused");
    manifest.task = find_task(content, manifest.format, task);
    manifest.file(manifest.graph);
    for (const std::string& name : manifest.task.files()) manifest.file(name);
    return manifest;
}

std::string changed_manifest(const Manifest& manifest, const Change& change) {
    // In front, so that the first digest of the text is the manifest's own.
    Json content = Json::of_object(
        {{"format", Json::of_number(3)}, {"digest", Json::of_text(std::string(kDigits, '0'))}});
    for (const auto& member : manifest.content.members("content"))
        if (member.first != "format" && member.first != "digest")
            content.set(member.first, member.second);
    if (manifest.format < 3) {
        content.set("task", Json::of_text(kMain));
        content.set("tasks", Json::of_object({}));
        if (content.find("export") == nullptr) content.set("export", Json());
    }
    const TaskRecord& task = manifest.task;
    Json& own = task.main ? content : content.edit("tasks").edit(task.name.c_str());
    own.set("labels", Json::of_list(change.labels));
    own.set("head", Json::of_object({{"kind", Json::of_text(kind_name(change.kind))},
                                     {"arrays", Json::of_text(change.arrays)}}));
    own.set("learning", change.learning.empty() ? Json() : Json::of_text(change.learning));
    own.set("update", update_json(manifest, change));

    Json& files = content.edit("files");
    std::vector<std::string> kept{task.base_arrays, change.arrays, change.learning};
    if (change.previous)
        kept.insert(kept.end(), {change.previous->arrays, change.previous->learning});
    for (const std::string& name : task.files())
        if (std::find(kept.begin(), kept.end(), name) == kept.end()) files.remove(name);
    files.set(change.arrays, record_json(change.arrays_record));
    if (!change.learning.empty()) files.set(change.learning, record_json(change.learning_record));

    std::string bytes = content.dump() + "\n";
    const std::string digest = sha256_hex(bytes.data(), bytes.size());
    bytes.replace(bytes.find(kDigestKey) + kDigestKey.size(), kDigits, digest);
    return bytes;
}

}  // namespace edgetl::capi
