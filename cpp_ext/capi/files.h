// Files, read whole and replaced whole; the one place that knows which system it runs on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace edgetl::capi {

constexpr std::uint64_t kMostFile = std::uint64_t{1} << 30;

inline const unsigned char* bytes_of(const std::string& text) {
    return reinterpret_cast<const unsigned char*>(text.data());
}

// Throws Failure with EDGETL_IO, or EDGETL_UNSUPPORTED for more than `most` bytes.
std::string read_file(const std::string& path, std::uint64_t most);

// Writes a file beside `path`, makes it durable, renames it to `path` and makes the rename durable:
// whenever the machine stops, `path` has its old content or this one, whole. Throws Failure with
// EDGETL_IO, and then leaves nothing beside it.
void replace_file(const std::string& path, const std::string& content);

// The same where nobody else writes `path` meanwhile, by way of a file called .NAME.new: what is
// left of it after a stop is written over the next time.
void replace_file_alone(const std::string& path, const std::string& content);

// While it lives no other process holds the same folder's, Python's commit among them. On Windows
// it keeps nobody out.
class FolderLock {
  public:
    explicit FolderLock(const std::string& folder);
    ~FolderLock();
    FolderLock(const FolderLock&) = delete;
    FolderLock& operator=(const FolderLock&) = delete;

  private:
    int handle_ = -1;
};

bool file_exists(const std::string& path);

// Removes a file if it is there; whether it could does not matter.
void remove_file(const std::string& path) noexcept;

// `name` in `folder`.
std::string joined(const std::string& folder, const std::string& name);

// A file that is read part by part.
class Reader {
  public:
    explicit Reader(const std::string& path);
    ~Reader();
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;
    // The number of bytes read, 0 at the end.
    std::size_t read(unsigned char* block, std::size_t bytes);

  private:
    std::string path_;
    void* file_;
};

}  // namespace edgetl::capi
