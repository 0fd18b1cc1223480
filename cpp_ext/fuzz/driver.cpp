// Runs a fuzzer's target without libFuzzer: blind, deterministic mutations for a bounded time,
// which is the processor's: a busy machine tries as many inputs as a quiet one.
//
//   fuzz_NAME [--seconds N] [--runs N] [--seed N] [--corpus FOLDER] [FILE ...]
//
// FILEs are run once each and nothing else is: that repeats a crash. The input at work always lies
// in crash-NAME, in the folder it was started in; the file is removed at a good end.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include "input.h"
#include "random.h"

namespace {

using Bytes = std::vector<std::uint8_t>;
constexpr std::size_t kLongest = std::size_t{1} << 16;

struct Options {
    double seconds = 10;
    std::uint64_t runs = std::numeric_limits<std::uint64_t>::max();
    std::uint64_t seed = 1;
    std::string corpus;
    std::vector<std::string> files;
};

Options parse(int count, char** words) {
    Options options;
    for (int i = 1; i < count; ++i) {
        const std::string word = words[i];
        if (word.rfind("--", 0) != 0) {
            options.files.push_back(word);
            continue;
        }
        const std::string value = i + 1 < count ? words[++i] : "";
        if (word == "--seconds")
            options.seconds = std::stod(value);
        else if (word == "--runs")
            options.runs = std::stoull(value);
        else if (word == "--seed")
            options.seed = std::stoull(value);
        else if (word == "--corpus")
            options.corpus = value;
        else {
            std::fprintf(stderr, "unknown option %s; see the head of driver.cpp\n", word.c_str());
            std::exit(2);
        }
    }
    return options;
}

Bytes read(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        std::fprintf(stderr, "cannot read %s\n", path.c_str());
        std::exit(2);
    }
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::vector<Bytes> read_corpus(const std::string& folder) {
    std::vector<std::filesystem::path> paths;
    if (!folder.empty())
        for (const auto& entry : std::filesystem::directory_iterator(folder))
            if (entry.is_regular_file()) paths.push_back(entry.path());
    std::sort(paths.begin(), paths.end());  // the same order everywhere
    std::vector<Bytes> corpus;
    for (const auto& path : paths) corpus.push_back(read(path));
    return corpus;
}

// The input at work, in a file that outlives this process however it ends.
class LastInput {
  public:
    explicit LastInput(std::string path) : path_(std::move(path)) {
        const int file = open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0644);
        if (file < 0 || ftruncate(file, kLongest) != 0) std::abort();
        memory_ = mmap(nullptr, kLongest, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        close(file);
        if (memory_ == MAP_FAILED) std::abort();
    }
    ~LastInput() {
        munmap(memory_, kLongest);
        std::remove(path_.c_str());
    }
    LastInput(const LastInput&) = delete;
    LastInput& operator=(const LastInput&) = delete;

    // Bytes beyond the input are zero, which is what a target reads past its end anyway.
    void keep(const Bytes& input) {
        if (!input.empty()) std::memcpy(memory_, input.data(), input.size());
        std::memset(static_cast<char*>(memory_) + input.size(), 0,
                    std::max(longest_, input.size()) - input.size());
        longest_ = std::max(longest_, input.size());
    }

  private:
    std::string path_;
    void* memory_;
    std::size_t longest_ = 0;
};

Bytes fresh(check::Random& random) {
    const std::int64_t longest = random.coin() ? 64 : 2048;
    return check::random_bytes(random, static_cast<std::size_t>(random.between(0, longest)));
}

// A copy with a few places changed, cut or doubled.
Bytes mutated(check::Random& random, const std::vector<Bytes>& corpus) {
    const auto one = [&]() -> const Bytes& {
        return corpus[static_cast<std::size_t>(random.between(0, corpus.size() - 1))];
    };
    Bytes bytes = one();
    for (std::int64_t left = random.between(1, 8); left > 0 && !bytes.empty(); --left) {
        const auto at = random.between(0, static_cast<std::int64_t>(bytes.size()) - 1);
        const auto length = random.between(
            1, std::min<std::int64_t>(64, static_cast<std::int64_t>(bytes.size()) - at));
        const auto from = bytes.begin() + at;
        switch (random.between(0, 5)) {
            case 0:
                *from = static_cast<std::uint8_t>(random.next());
                break;
            case 1:
                *from = static_cast<std::uint8_t>(*from ^ (1u << random.between(0, 7)));
                break;
            case 2:
                std::fill(from, from + length, random.coin() ? 0 : 255);
                break;
            case 3:
                bytes.erase(from, from + length);
                break;
            case 4: {
                const Bytes copy(from, from + length);
                bytes.insert(bytes.begin() + random.between(0, at), copy.begin(), copy.end());
                break;
            }
            default: {
                const Bytes& other = one();
                const auto rest = static_cast<std::size_t>(at);
                bytes.resize(rest);
                if (rest < other.size()) bytes.insert(bytes.end(), other.begin() + at, other.end());
            }
        }
    }
    if (bytes.size() > kLongest) bytes.resize(kLongest);
    return bytes;
}

// Seconds of the processor so far, of all threads.
double used() {
    return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

}  // namespace

int main(int count, char** words) {
    const Options options = parse(count, words);
    for (const std::string& file : options.files) {
        const Bytes input = read(file);
        LLVMFuzzerTestOneInput(input.data(), input.size());
    }
    if (!options.files.empty()) return 0;

    const std::string name = std::filesystem::path(words[0]).filename();
    const std::vector<Bytes> corpus = read_corpus(options.corpus);
    const auto elapsed = [start = used()] { return used() - start; };
    LastInput last("crash-" + name);
    std::uint64_t run = 0;
    for (; run < options.runs && elapsed() < options.seconds; ++run) {
        check::Random random(options.seed + run);  // of this run alone: runs don't depend on time
        Bytes input;
        if (run < corpus.size())
            input = corpus[run];
        else
            input = corpus.empty() || random.between(0, 3) == 0 ? fresh(random)
                                                                : mutated(random, corpus);
        if (input.size() > kLongest) input.resize(kLongest);
        last.keep(input);
        LLVMFuzzerTestOneInput(input.data(), input.size());
    }
    std::printf("%s: %llu inputs in %.1f s, none failed\n", name.c_str(),
                static_cast<unsigned long long>(run), elapsed());
    return 0;
}
