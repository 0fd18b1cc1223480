// A bundle as the C library keeps it, and what replaces its head on the disk.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "head.h"
#include "manifest.h"

struct edgetl_bundle {
    std::string folder;
    std::string graph_path;
    edgetl::capi::Manifest manifest;
    edgetl_head head;
    std::string learning;  // the file's bytes; empty: none
};

namespace edgetl::capi {

std::unique_ptr<edgetl_bundle> open_bundle(const std::string& folder, const char* task);

// A file's bytes, which are proved to be what the manifest says.
std::string proved_file(const std::string& folder, const Manifest& manifest,
                        const std::string& name);

// Refuses a bundle whose network has the head inside: it would go on answering as before.
void check_learnable(const edgetl_bundle& bundle);

// What becomes of a bundle's head.
struct NewHead {
    const edgetl_head* head;  // of a kind, with names
    std::string learning;     // a file's content; empty: none
    std::int64_t generation;
    std::int64_t applied;
    std::int64_t samples;
    // By a head update: the head that it replaces stays, so that `edgetl rollback` can put it back.
    bool by_update = false;
    bool same_learning = false;  // the bundle's, whose file stays; `learning` is empty
    Json accuracy_before{}, accuracy_after{};
};

// Puts it in place, all at once or not at all; throws Failure, EDGETL_STALE if the folder holds
// another manifest than the one that was read. Returns the new manifest.
std::string commit(const edgetl_bundle& bundle, const NewHead& fresh);

}  // namespace edgetl::capi
