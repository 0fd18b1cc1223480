// Reading and replacing files on POSIX systems and on Windows; see files.h.
#include "files.h"

#include <atomic>
#include <cstdio>

#include "boundary.h"

#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#else
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#endif

namespace edgetl::capi {
namespace {

[[noreturn]] void failed_to(const char* what, const std::string& path) {
    throw Failure(EDGETL_IO, std::string("can't ") + what + " " + path);
}

#ifdef _WIN32

std::wstring wide(const std::string& path) {
    const int length = static_cast<int>(path.size());
    const int count =
        MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path.data(), length, nullptr, 0);
    if (count <= 0) failed_to("read the name", path);
    std::wstring result(static_cast<std::size_t>(count), L'\0');
    MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path.data(), length, result.data(), count);
    return result;
}

std::FILE* open_to_read(const std::string& path) {
    return _wfopen(wide(path).c_str(), L"rb");
}

unsigned long process() {
    return GetCurrentProcessId();
}

bool write_durably(const std::string& path, const std::string& content) {
    const HANDLE file = CreateFileW(wide(path).c_str(), GENERIC_WRITE, 0, nullptr, CREATE_NEW,
                                    FILE_ATTRIBUTE_NORMAL, nullptr);
    if (file == INVALID_HANDLE_VALUE) return false;
    bool good = true;
    for (std::size_t at = 0; good && at < content.size();) {
        const std::size_t left = content.size() - at;
        const DWORD part = static_cast<DWORD>(left < (1u << 20) ? left : (1u << 20));
        DWORD done = 0;
        good = WriteFile(file, content.data() + at, part, &done, nullptr) && done > 0;
        at += done;
    }
    good = good && FlushFileBuffers(file);
    return CloseHandle(file) && good;
}

// The system journals the folder itself.
bool move_durably(const std::string& from, const std::string& to) {
    return MoveFileExW(wide(from).c_str(), wide(to).c_str(),
                       MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH);
}

void remove_plainly(const std::string& path) {
    DeleteFileW(wide(path).c_str());
}

bool exists(const std::string& path) {
    return GetFileAttributesW(wide(path).c_str()) != INVALID_FILE_ATTRIBUTES;
}

int lock_folder(const std::string&) {
    return -1;
}

void unlock_folder(int) {}

#else

std::FILE* open_to_read(const std::string& path) {
    return std::fopen(path.c_str(), "rb");
}

unsigned long process() {
    return static_cast<unsigned long>(getpid());
}

bool write_durably(const std::string& path, const std::string& content) {
    const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file < 0) return false;
    bool good = true;
    for (std::size_t at = 0; good && at < content.size();) {
        const ssize_t done = write(file, content.data() + at, content.size() - at);
        if (done >= 0)
            at += static_cast<std::size_t>(done);
        else
            good = errno == EINTR;
    }
    good = good && fsync(file) == 0;
    return close(file) == 0 && good;
}

bool sync_folder(const std::string& path) {
    const auto slash = path.find_last_of('/');
    const std::string folder =
        slash == std::string::npos ? "." : path.substr(0, slash == 0 ? 1 : slash);
    const int handle = open(folder.c_str(), O_RDONLY | O_CLOEXEC);
    if (handle < 0) return false;
    // Some file systems have nothing to sync for a folder, and say so.
    const bool good = fsync(handle) == 0 || errno == EINVAL;
    close(handle);
    return good;
}

bool move_durably(const std::string& from, const std::string& to) {
    return std::rename(from.c_str(), to.c_str()) == 0 && sync_folder(to);
}

void remove_plainly(const std::string& path) {
    unlink(path.c_str());
}

bool exists(const std::string& path) {
    struct stat found;
    return stat(path.c_str(), &found) == 0;
}

int lock_folder(const std::string& path) {
    const int handle = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (handle < 0) failed_to("open", path);
    while (flock(handle, LOCK_EX) != 0)
        if (errno != EINTR) {
            close(handle);
            failed_to("lock", path);
        }
    return handle;
}

void unlock_folder(int handle) {
    close(handle);
}

#endif

}  // namespace

Reader::Reader(const std::string& path) : path_(path), file_(open_to_read(path)) {
    if (file_ == nullptr) failed_to("open", path);
}

Reader::~Reader() {
    std::fclose(static_cast<std::FILE*>(file_));
}

std::size_t Reader::read(unsigned char* block, std::size_t bytes) {
    auto* file = static_cast<std::FILE*>(file_);
    const std::size_t count = std::fread(block, 1, bytes, file);
    if (count == 0 && std::ferror(file)) failed_to("read", path_);
    return count;
}

std::string read_file(const std::string& path, std::uint64_t most) {
    Reader reader(path);
    std::string bytes;
    unsigned char block[1 << 14];
    while (const std::size_t count = reader.read(block, sizeof block)) {
        if (count > most - bytes.size())
            throw Failure(EDGETL_UNSUPPORTED,
                          path + " has more than " + std::to_string(most) + " bytes");
        bytes.append(reinterpret_cast<const char*>(block), count);
    }
    return bytes;
}

namespace {

void replace_by(const std::string& fresh, const std::string& path, const std::string& content) {
    remove_file(fresh);  // of a writer that was stopped
    if (!write_durably(fresh, content)) {
        remove_file(fresh);
        failed_to("write", fresh);
    }
    if (!move_durably(fresh, path)) {
        remove_file(fresh);
        failed_to("replace", path);
    }
}

}  // namespace

void replace_file(const std::string& path, const std::string& content) {
    static std::atomic<unsigned> count{0};
    replace_by(path + "." + std::to_string(process()) + "-" + std::to_string(count++) + ".new",
               path, content);
}

void replace_file_alone(const std::string& path, const std::string& content) {
    const auto name = path.find_last_of("/\\") + 1;
    replace_by(path.substr(0, name) + "." + path.substr(name) + ".new", path, content);
}

void remove_file(const std::string& path) noexcept {
    try {
        remove_plainly(path);
    } catch (...) {  // its name could not even be converted
    }
}

FolderLock::FolderLock(const std::string& folder) : handle_(lock_folder(folder)) {}

FolderLock::~FolderLock() {
    unlock_folder(handle_);
}

bool file_exists(const std::string& path) {
    return exists(path);
}

std::string joined(const std::string& folder, const std::string& name) {
    const char last = folder.empty() ? '/' : folder.back();
#ifdef _WIN32
    return last == '/' || last == '\\' ? folder + name : folder + "\\" + name;
#else
    return last == '/' ? folder + name : folder + "/" + name;
#endif
}

}  // namespace edgetl::capi
