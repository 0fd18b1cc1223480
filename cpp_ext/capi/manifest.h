// The manifest of a bundle, as far as a device needs it: what edgetl/bundle/manifest.py writes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "edgetl.h"
#include "json.h"

namespace edgetl::capi {

constexpr char kManifest[] = "manifest.json";

struct FileRecord {
    std::string sha256;  // in hexadecimal
    std::uint64_t size = 0;

    static FileRecord of(const std::string& content);
    bool operator==(const FileRecord& other) const {
        return sha256 == other.sha256 && size == other.size;
    }
};

// The head that a head update replaced, which stays so that it can be put back.
struct PreviousHead {
    std::int64_t generation = 0;
    std::int32_t kind = EDGETL_LINEAR;
    std::vector<std::string> labels;
    std::string arrays;
    std::string learning;  // empty: none
    std::int64_t samples = 0;
};

// One head of a bundle. Files are names in its folder.
struct TaskRecord {
    std::string name;
    bool main = true;
    std::int32_t kind = EDGETL_LINEAR;
    std::vector<std::string> labels;
    std::string arrays;
    std::string learning;  // empty: none
    // The head as it was shipped; what stands above, at generation 0.
    std::int64_t generation = 0;
    std::int64_t applied = 0;  // number of the newest signed update
    std::int64_t samples = 0;
    std::string base;  // SHA-256 of its file
    std::string base_arrays;
    std::int32_t base_kind = EDGETL_LINEAR;
    std::vector<std::string> base_labels;
    std::optional<PreviousHead> previous{};
    std::string fixed_by;  // the method whose head can't learn samples; empty where it can

    // Names of all of them, of the shipped and of the replaced head's too.
    std::vector<std::string> files() const;
};

struct Manifest {
    Json content;
    std::string bytes;
    std::int64_t format = 0;
    std::size_t dim = 0;
    std::string graph;
    std::string graph_fingerprint;
    std::string preprocess_digest;  // SHA-256 of its compact JSON
    bool fused = false;             // the graph has the head inside
    edgetl_preprocess_options preprocess{};
    TaskRecord task;

    FileRecord file(const std::string& name) const;
};

// Throws Failure: EDGETL_CORRUPT for anything amiss, the digest first; EDGETL_UNSUPPORTED for a
// format or a kind of head that is not known here; EDGETL_INVALID for a task that is not there.
// `task` may be null: the main one.
Manifest read_manifest(const std::string& bytes, const char* task);

// What becomes of a head; files with their content's records.
struct Change {
    std::int32_t kind;
    std::vector<std::string> labels;
    std::int64_t generation;
    std::int64_t applied;
    std::int64_t samples;  // learned since the head was shipped
    std::string arrays;
    FileRecord arrays_record;
    std::string learning;  // empty: none
    FileRecord learning_record;
    Json accuracy_before{};  // on kept samples; null: not known
    Json accuracy_after{};
    std::optional<PreviousHead> previous{};
};

// The bytes of the manifest, of format 3, with this change of its task.
std::string changed_manifest(const Manifest& manifest, const Change& change);

}  // namespace edgetl::capi
