// The extraction loop: bytes of photos in, batches of network inputs out, on several threads.
//
// Photos are decoded and preprocessed straight into the slots of a few batch buffers that go round,
// so what is in flight is bounded. The work is done by threads of the loader's own, and by callers
// while they wait for something to do: where every core has a caller, no thread is left over to
// compete with them. A photo that can't be decoded here is handed back with the reason; nothing
// that is wrong with one photo concerns another. Knows no Python.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "edgetl/photo.h"

namespace edgetl {

struct LoaderOptions {
    std::int64_t batch;    // slots of a batch
    std::int64_t buffers;  // batches that go round
    std::int64_t taken;    // batches that callers may have at a time, at most `buffers`
    std::int64_t queue;    // photos that may wait
    int threads;           // of the loader's own; may be none
};

// What a caller is to do next. The first three have to be answered.
enum class Event {
    kBatch,     // use a batch; answered by release()
    kDeclined,  // decode a photo by other means; answered by answer() or drop()
    kFeed,      // add() photos while hungry(); answered by fed()
    kWait,      // nothing so far
    kEnd,       // all is done, or the loader was stopped
};

struct Turn {
    Event event;
    std::int64_t id;     // kBatch: the buffer's number; kDeclined: the photo's
    std::string reason;  // kDeclined: why
};

struct Spent {
    std::int64_t decode_ns;
    std::int64_t preprocess_ns;
};

// Safe to call from several threads. Photos have ids of the caller's choice, each used once.
class Loader {
  public:
    using Clock = std::chrono::steady_clock;

    // Throws std::invalid_argument for options or a definition out of range.
    Loader(Recipe recipe, const LoaderOptions& options);
    ~Loader();  // stops, and waits for its threads; no caller may be left inside
    Loader(const Loader&) = delete;
    Loader& operator=(const Loader&) = delete;

    // Queues the bytes of a file, which have to stay as they are until settled() names the id or
    // the photo is declined. submit() waits while the queue is full; false if it still was at
    // `until`, or the loader stopped. add() never waits.
    bool submit(std::int64_t id, Bytes file, Clock::time_point until);
    void add(std::int64_t id, Bytes file);
    // Queues decoded pixels, settled likewise; never waits.
    void add_pixels(std::int64_t id, const Image& image);
    // Nothing more will be submitted, but for what is being fed and declined photos.
    void close();

    // What to do next. While there is nothing, the caller decodes and preprocesses if it will
    // `help`. kFeed comes only if it `feeds`; kWait at `until`, or as soon as a photo is done then.
    // Throws what a thread of the loader threw, which out of memory aside is nothing.
    Turn take(bool help, bool feeds, Clock::time_point until);
    // Gives a batch back; throws std::invalid_argument for one that was not taken.
    void release(std::int64_t buffer);
    // Pixels of a declined photo.
    void answer(std::int64_t id, const Image& image);
    // A declined photo is of no use.
    void drop();
    // While kFeed is being answered: whether more is wanted.
    bool hungry();
    void fed();

    // Lets nobody wait any longer: take() gives kEnd from now on. What waits is settled.
    void stop();
    bool stopped();

    // Ids whose bytes or pixels are no longer read, each named once.
    std::vector<std::int64_t> settled();
    Spent spent();
    // Photos that wait.
    std::int64_t queued();

    const LoaderOptions& options() const { return options_; }
    const Recipe& recipe() const { return recipe_; }
    // A buffer's memory: outputs one behind the other. In a batch that is not full, what lies
    // behind its samples is left over from another.
    std::uint8_t* memory(std::int64_t buffer) const;
    // The ids in a batch in the order of its slots; only while it is taken.
    const std::vector<std::int64_t>& ids(std::int64_t buffer) const;

  private:
    using Lock = std::unique_lock<std::mutex>;
    struct Free {
        void operator()(void* memory) const { std::free(memory); }
    };
    struct Buffer {
        std::unique_ptr<void, Free> block;
        std::uint8_t* memory;           // the block's first cache line
        std::vector<std::int64_t> ids;  // of the slots claimed
        std::int64_t filled;
        bool taken;
    };
    struct Photo {
        std::int64_t id;
        Bytes file;
        Image image;  // of pixels
    };
    struct Declined {
        std::int64_t id;
        std::string reason;
    };

    void run();
    bool work(Lock& lock, Workspace* workspace);
    void fill_slot(Lock& lock, std::int64_t id, const Image& image);
    std::int64_t free_slots() const;
    std::int64_t waiting() const;
    bool quiet() const;
    void count_queue();

    const Recipe recipe_;
    const LoaderOptions options_;
    const std::int64_t bytes_;  // of one output

    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<Buffer> buffers_;
    std::vector<std::int64_t> free_;
    std::int64_t current_ = -1;  // the buffer whose slots are being claimed
    std::deque<std::int64_t> ready_;
    std::deque<Photo> files_, pixels_;
    std::deque<Declined> declined_;
    std::vector<std::int64_t> settled_;
    std::int64_t promised_ = 0;    // slots for photos that are being decoded
    std::int64_t working_ = 0;     // photos that are being decoded or preprocessed
    std::int64_t taken_ = 0;       // batches with callers
    std::int64_t away_ = 0;        // declined photos with callers
    std::int64_t feeding_ = 0;     // callers that answer kFeed
    std::int64_t submitting_ = 0;  // callers that wait in submit()
    bool filling_ = true;          // from half empty to full, so that feeding comes in runs
    bool closed_ = false;
    bool stopped_ = false;
    std::exception_ptr error_;
    Spent spent_{};
    std::vector<std::thread> threads_;
};

}  // namespace edgetl
