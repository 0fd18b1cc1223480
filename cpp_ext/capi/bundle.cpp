// C face of bundles: opening one and asking it.
#include "bundle.h"

#include <algorithm>

#include "boundary.h"
#include "files.h"
#include "sha2.h"

namespace edgetl::capi {
namespace {

constexpr std::uint64_t kMostManifest = std::uint64_t{1} << 24;
constexpr std::size_t kOptions1 = offsetof(edgetl_preprocess_options, reserved) + 4;
constexpr int kAttempts = 8;

[[noreturn]] void changed(const std::string& name) {
    throw Failure(EDGETL_CORRUPT, name + " was changed: the manifest says another hash or size");
}

std::unique_ptr<edgetl_bundle> open_once(const std::string& folder, const std::string& manifest,
                                         const char* task) {
    auto bundle = std::make_unique<edgetl_bundle>();
    bundle->folder = folder;
    bundle->manifest = read_manifest(manifest, task);
    bundle->graph_path = joined(folder, bundle->manifest.graph);
    const TaskRecord& record = bundle->manifest.task;
    const std::string arrays = proved_file(folder, bundle->manifest, record.arrays);
    bundle->head = std::move(*read_head(bytes_of(arrays), arrays.size()));
    edgetl_head& head = bundle->head;
    if (head.kind == EDGETL_LINEAR && record.kind <= EDGETL_LDA) head.kind = record.kind;
    if (head.kind != record.kind || head.classes != record.labels.size() ||
        head.features != bundle->manifest.dim)
        throw Failure(EDGETL_CORRUPT,
                      "the head is " + std::string(kind_name(head.kind)) + " of " +
                          std::to_string(head.classes) + " classes and " +
                          std::to_string(head.features) + " features, the manifest says " +
                          kind_name(record.kind) + ", " + std::to_string(record.labels.size()) +
                          " labels and " + std::to_string(bundle->manifest.dim) + " features");
    head.names = record.labels;
    if (!record.learning.empty())
        bundle->learning = proved_file(folder, bundle->manifest, record.learning);
    return bundle;
}

}  // namespace

std::string proved_file(const std::string& folder, const Manifest& manifest,
                        const std::string& name) {
    const FileRecord record = manifest.file(name);
    if (record.size > kMostFile) throw Failure(EDGETL_UNSUPPORTED, name + " has more than 1 GiB");
    std::string content = read_file(joined(folder, name), kMostFile);
    if (!(FileRecord::of(content) == record)) changed(name);
    return content;
}

std::unique_ptr<edgetl_bundle> open_bundle(const std::string& folder, const char* task) {
    const std::string path = joined(folder, kManifest);
    std::string manifest = read_file(path, kMostManifest);
    for (int left = kAttempts;; --left) {
        try {
            return open_once(folder, manifest, task);
        } catch (const Failure&) {
            // Somebody may have put a new head in place meanwhile, and removed the old one's file.
            std::string now = read_file(path, kMostManifest);
            if (now == manifest || left == 0) throw;
            manifest = std::move(now);
        }
    }
}

void check_learnable(const edgetl_bundle& bundle) {
    if (bundle.manifest.fused)
        throw Failure(EDGETL_UNSUPPORTED,
                      "the network has the head inside (fused) and would go on answering as "
                      "before; take the bundle that it was exported from");
}

}  // namespace edgetl::capi

namespace capi = edgetl::capi;

extern "C" {

edgetl_status edgetl_bundle_open(const char* folder, const char* task, edgetl_bundle** bundle) {
    if (bundle != nullptr) *bundle = nullptr;
    return capi::guarded([&] {
        if (folder == nullptr || bundle == nullptr) capi::refuse("folder or bundle is NULL");
        *bundle = capi::open_bundle(folder, task).release();
    });
}

void edgetl_bundle_free(edgetl_bundle* bundle) {
    delete bundle;
}

edgetl_status edgetl_bundle_preprocess(const edgetl_bundle* bundle,
                                       edgetl_preprocess_options* options) {
    return capi::guarded([&] {
        if (bundle == nullptr) capi::refuse("bundle is NULL");
        const auto given = capi::known(options, capi::kOptions1, "edgetl_preprocess_options");
        edgetl_preprocess_options found = bundle->manifest.preprocess;
        found.struct_size = given.struct_size;
        // A longer structure of a newer program keeps zeros behind what is known here.
        std::memcpy(options, &found, std::min(given.struct_size, sizeof found));
    });
}

const char* edgetl_bundle_graph(const edgetl_bundle* bundle) {
    return bundle != nullptr ? bundle->graph_path.c_str() : nullptr;
}

edgetl_status edgetl_bundle_check_graph(const edgetl_bundle* bundle) {
    return capi::guarded([&] {
        if (bundle == nullptr) capi::refuse("bundle is NULL");
        capi::Reader reader(bundle->graph_path);
        capi::Sha256 hash;
        capi::FileRecord found;
        std::string block(std::size_t{1} << 16, '\0');
        auto* bytes = reinterpret_cast<unsigned char*>(&block[0]);
        while (const std::size_t count = reader.read(bytes, block.size())) {
            hash.add(bytes, count);
            found.size += count;
        }
        const auto digest = hash.digest();
        found.sha256 = capi::hexadecimal(digest.data(), digest.size());
        if (!(found == bundle->manifest.file(bundle->manifest.graph)))
            capi::changed(bundle->manifest.graph);
    });
}

const edgetl_head* edgetl_bundle_head(const edgetl_bundle* bundle) {
    return bundle != nullptr ? &bundle->head : nullptr;
}

int64_t edgetl_bundle_generation(const edgetl_bundle* bundle) {
    return bundle != nullptr ? bundle->manifest.task.generation : 0;
}

}  // extern "C"
