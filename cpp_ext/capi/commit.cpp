// Puts another head into a bundle where it lies, as edgetl/bundle/commit.py does: new arrays get
// new files, and one rename of the manifest makes them the bundle's.
#include <string>

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

}  // namespace

std::string commit(const edgetl_bundle& bundle, const NewHead& fresh) {
    check_learnable(bundle);
    const TaskRecord& task = bundle.manifest.task;
    const std::string arrays = head_bytes(*fresh.head);
    Change change{fresh.head->kind,
                  fresh.head->names,
                  fresh.generation,
                  fresh.applied,
                  fresh.samples,
                  "",
                  FileRecord::of(arrays),
                  "",
                  {}};
    change.arrays = file_name("head", task, fresh.generation, change.arrays_record);
    if (!fresh.learning.empty()) {
        change.learning_record = FileRecord::of(fresh.learning);
        change.learning = file_name("learning", task, fresh.generation, change.learning_record);
    }
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
    if (!change.learning.empty())
        replace_file_alone(joined(bundle.folder, change.learning), fresh.learning);
    replace_file_alone(path, manifest);
    if (task.arrays != task.base_arrays && task.arrays != check.task.arrays)
        remove_file(joined(bundle.folder, task.arrays));
    if (!task.learning.empty() && task.learning != check.task.learning)
        remove_file(joined(bundle.folder, task.learning));
    return manifest;
}

}  // namespace edgetl::capi
