// Puts another head into a bundle where it lies, as edgetl/bundle/commit.py does: new arrays get
// new files, and one rename of the manifest makes them the bundle's.
#include <algorithm>
#include <string>
#include <string_view>

#include "boundary.h"
#include "bundle.h"
#include "files.h"

namespace edgetl::capi {
namespace {

constexpr std::uint64_t kMostManifest = std::uint64_t{1} << 24;

// What Python's runtime keeps of what it learned; its generations would collide with ours.
constexpr char kUpdates[] = "updates.sqlite";

std::string file_name(const char* part, const TaskRecord& task, std::int64_t generation,
                      const FileRecord& record) {
    const std::string ending = task.main ? "" : "-" + task.name;
    return part + ending + "-" + std::to_string(generation) + "-" + record.sha256.substr(0, 8) +
           ".safetensors";
}

// Whether a name is one that heads' files have: whatever a manifest says, no other goes.
bool is_replaceable(const std::string& name) {
    constexpr std::string_view ending = ".safetensors";
    return (name.compare(0, 4, "head") == 0 || name.compare(0, 8, "learning") == 0) &&
           name.size() > ending.size() &&
           name.compare(name.size() - ending.size(), ending.size(), ending) == 0;
}

}  // namespace

std::string commit(const edgetl_bundle& bundle, const NewHead& fresh) {
    check_learnable(bundle);
    const TaskRecord& task = bundle.manifest.task;
    const std::string arrays = head_bytes(*fresh.head);
    Change change;
    change.kind = fresh.head->kind;
    change.labels = fresh.head->names;
    change.generation = fresh.generation;
    change.applied = fresh.applied;
    change.samples = fresh.samples;
    change.accuracy_before = fresh.accuracy_before;
    change.accuracy_after = fresh.accuracy_after;
    change.arrays_record = FileRecord::of(arrays);
    change.arrays = file_name("head", task, fresh.generation, change.arrays_record);
    if (!fresh.learning.empty()) {
        change.learning_record = FileRecord::of(fresh.learning);
        change.learning = file_name("learning", task, fresh.generation, change.learning_record);
    } else if (fresh.same_learning) {
        change.learning_record = bundle.manifest.file(task.learning);
        change.learning = task.learning;
    }
    if (fresh.by_update)
        change.previous = PreviousHead{task.generation, task.kind,     task.labels,
                                       task.arrays,     task.learning, task.samples};
    const std::string manifest = changed_manifest(bundle.manifest, change);
    const Manifest check = read_manifest(manifest, task.name.c_str());  // or nothing is written

    const FolderLock lock(bundle.folder);
    const std::string path = joined(bundle.folder, kManifest);
    if (read_file(path, kMostManifest) != bundle.manifest.bytes)
        throw Failure(EDGETL_STALE,
                      "the folder is no longer the bundle that was opened: somebody "
                      "changed it; open it again");
    if (file_exists(joined(bundle.folder, kUpdates)))
        throw Failure(EDGETL_UNSUPPORTED,
                      std::string("the folder has ") + kUpdates +
                          ": Python's runtime learns there; let it save elsewhere first");
    replace_file_alone(joined(bundle.folder, change.arrays), arrays);
    if (!fresh.learning.empty())
        replace_file_alone(joined(bundle.folder, change.learning), fresh.learning);
    replace_file_alone(path, manifest);
    const std::vector<std::string> kept = check.task.files();
    for (const std::string& name : task.files())
        if (std::find(kept.begin(), kept.end(), name) == kept.end() && is_replaceable(name))
            remove_file(joined(bundle.folder, name));
    return manifest;
}

}  // namespace edgetl::capi
