// The loop of edgetl/loader.h: who does what next, under one lock that is never held while working.
#include "edgetl/loader.h"

#include <algorithm>
#include <new>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace edgetl {
namespace {

constexpr std::size_t kCacheLine = 64;
constexpr std::size_t kKept = std::size_t{64} << 20;  // bytes that a thread keeps between photos

// A caller's own, from one take() to the next.
Workspace& workspace_of_thread() {
    thread_local Workspace workspace;
    return workspace;
}

Turn end() {
    workspace_of_thread().trim(0);
    return {Event::kEnd, 0, {}};
}

std::int64_t nanoseconds(Loader::Clock::time_point since, Loader::Clock::time_point until) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(until - since).count();
}

const LoaderOptions& checked(const LoaderOptions& options) {
    constexpr std::int64_t kMost = std::int64_t{1} << 20;
    for (const std::int64_t value : {options.batch, options.buffers, options.taken, options.queue,
                                     options.threads + std::int64_t{1}})
        if (value < 1 || value > kMost)
            throw std::invalid_argument("batch, buffers, taken and queue must be 1 to 1048576");
    if (options.taken > options.buffers)
        throw std::invalid_argument("more batches to be taken than there are buffers");
    return options;
}

}  // namespace

Loader::Loader(Recipe recipe, const LoaderOptions& options)
    : recipe_(std::move(recipe)),
      options_(checked(options)),
      bytes_(output_bytes(recipe_.definition)) {
    needed(1, 1, recipe_.definition);  // throws if the definition is out of range
    const std::size_t size = static_cast<std::size_t>(options_.batch) * bytes_;
    for (std::int64_t i = 0; i < options_.buffers; ++i) {
        Buffer buffer{};
        // Zeros that the system gives when they are touched, unlike those of a vector.
        buffer.block.reset(std::calloc(size + kCacheLine, 1));
        if (buffer.block == nullptr) throw std::bad_alloc();
        void* first = buffer.block.get();
        std::size_t space = size + kCacheLine;
        buffer.memory = static_cast<std::uint8_t*>(std::align(kCacheLine, size, first, space));
        buffer.ids.reserve(options_.batch);
        buffers_.push_back(std::move(buffer));
        free_.push_back(i);
    }
    try {
        for (int i = 0; i < options_.threads; ++i) threads_.emplace_back([this] { run(); });
    } catch (const std::system_error&) {
        // No more threads to be had: callers that help, or those that are there, do the rest.
        if (threads_.empty()) throw;
    }
}

Loader::~Loader() {
    stop();
    for (std::thread& thread : threads_) thread.join();
}

void Loader::run() {
    Workspace workspace;
    Lock lock(mutex_);
    while (!stopped_ && !quiet())
        if (!work(lock, &workspace)) changed_.wait(lock);
}

// ---- photos in ----------------------------------------------------------------------------------

// Photos that wait count until somebody takes them, declined ones too.
std::int64_t Loader::waiting() const {
    return static_cast<std::int64_t>(files_.size() + pixels_.size() + declined_.size());
}

// Wakes those who submit or feed when there is room for more.
void Loader::count_queue() {
    const bool before = filling_;
    if (waiting() >= options_.queue)
        filling_ = false;
    else if (waiting() <= options_.queue / 2)
        filling_ = true;
    if (submitting_ > 0 || filling_ != before) changed_.notify_all();
}

bool Loader::submit(std::int64_t id, Bytes file, Clock::time_point until) {
    Lock lock(mutex_);
    ++submitting_;
    const bool room =
        changed_.wait_until(lock, until, [this] { return stopped_ || waiting() < options_.queue; });
    --submitting_;
    if (!room || stopped_) return false;
    files_.push_back({id, file, {}});
    count_queue();
    changed_.notify_all();
    return true;
}

void Loader::add(std::int64_t id, Bytes file) {
    const Lock lock(mutex_);
    (stopped_ ? settled_.push_back(id) : files_.push_back({id, file, {}}));
    count_queue();
    changed_.notify_all();
}

void Loader::add_pixels(std::int64_t id, const Image& image) {
    const Lock lock(mutex_);
    (stopped_ ? settled_.push_back(id) : pixels_.push_back({id, {}, image}));
    count_queue();
    changed_.notify_all();
}

void Loader::close() {
    const Lock lock(mutex_);
    closed_ = true;
    changed_.notify_all();
}

void Loader::answer(std::int64_t id, const Image& image) {
    add_pixels(id, image);
    drop();
}

void Loader::drop() {
    const Lock lock(mutex_);
    --away_;
    changed_.notify_all();
}

bool Loader::hungry() {
    const Lock lock(mutex_);
    return filling_ && !closed_ && !stopped_;
}

void Loader::fed() {
    const Lock lock(mutex_);
    --feeding_;
    changed_.notify_all();
}

// ---- work ---------------------------------------------------------------------------------------

std::int64_t Loader::free_slots() const {
    const std::int64_t begun =
        current_ < 0 ? 0
                     : options_.batch - static_cast<std::int64_t>(buffers_[current_].ids.size());
    return begun + static_cast<std::int64_t>(free_.size()) * options_.batch - promised_;
}

// Decodes and preprocesses one photo, if there is one and a slot for it; the lock is free
// meanwhile.
bool Loader::work(Lock& lock, Workspace* workspace) {
    if (stopped_ || (pixels_.empty() && files_.empty()) || free_slots() < 1) return false;
    std::deque<Photo>& queue = pixels_.empty() ? files_ : pixels_;
    const bool file = pixels_.empty();
    const Photo photo = queue.front();
    queue.pop_front();
    ++working_;
    ++promised_;  // a slot; which one is decided when there is something to fill it
    count_queue();
    if (!file && !declined_.empty()) changed_.notify_all();  // more pixels may be asked for
    lock.unlock();
    Image image = photo.image;
    const char* reason = nullptr;
    std::string text;
    std::int64_t decoding = 0;
    try {
        if (file) {
            const Clock::time_point start = Clock::now();
            reason = decode_photo(recipe_, photo.file.data, photo.file.size, workspace, &image);
            decoding = nanoseconds(start, Clock::now());
        }
        if (reason != nullptr) text = reason;
    } catch (...) {  // out of memory: whoever decodes it by other means will say so
        reason = "out of memory";
    }
    lock.lock();
    --promised_;
    spent_.decode_ns += decoding;
    if (reason != nullptr) {
        declined_.push_back({photo.id, text.empty() ? reason : std::move(text)});
        count_queue();
    } else {
        fill_slot(lock, photo.id, image);
        workspace->trim(kKept);
        settled_.push_back(photo.id);
    }
    --working_;
    // Nobody is woken without a reason: for every photo, it takes time from those who work.
    if (reason != nullptr || stopped_ || quiet()) changed_.notify_all();
    return true;
}

// Claims a slot, which there is since it was promised, and preprocesses into it.
void Loader::fill_slot(Lock& lock, std::int64_t id, const Image& image) {
    if (stopped_) return;
    if (current_ < 0) {
        current_ = free_.back();
        free_.pop_back();
    }
    const std::int64_t number = current_;
    Buffer& buffer = buffers_[number];
    const auto slot = static_cast<std::int64_t>(buffer.ids.size());
    buffer.ids.push_back(id);
    if (slot + 1 == options_.batch) current_ = -1;
    lock.unlock();
    std::exception_ptr error;
    const Clock::time_point start = Clock::now();
    try {
        preprocess(image, recipe_.definition, buffer.memory + slot * bytes_, 1, recipe_.isa);
    } catch (...) {
        error = std::current_exception();
    }
    const std::int64_t preprocessing = nanoseconds(start, Clock::now());
    lock.lock();
    spent_.preprocess_ns += preprocessing;
    if (error && !error_) error_ = error;
    if (error) stopped_ = true;
    if (++buffer.filled < options_.batch) return;
    ready_.push_back(number);
    changed_.notify_all();
}

// ---- batches out --------------------------------------------------------------------------------

// Whether no photo is on its way any more, nor will be.
bool Loader::quiet() const {
    return closed_ && feeding_ == 0 && files_.empty() && pixels_.empty() && declined_.empty() &&
           away_ == 0 && working_ == 0;
}

Turn Loader::take(bool help, bool feeds, Clock::time_point until) {
    Lock lock(mutex_);
    for (;;) {
        if (error_) std::rethrow_exception(error_);
        if (stopped_) return end();
        if (quiet() && current_ >= 0) {  // the last batch, which is not full
            ready_.push_back(current_);
            current_ = -1;
        }
        if (!ready_.empty() && taken_ < options_.taken) {
            const std::int64_t number = ready_.front();
            ready_.pop_front();
            buffers_[number].taken = true;
            ++taken_;
            return {Event::kBatch, number, {}};
        }
        if (feeds && filling_ && !closed_) {
            ++feeding_;
            return {Event::kFeed, 0, {}};
        }
        if (help && !pixels_.empty() && work(lock, &workspace_of_thread())) continue;
        // Pixels take far more memory than files: what waits of them is bounded as well.
        const std::int64_t large = away_ + static_cast<std::int64_t>(pixels_.size());
        if (!declined_.empty() && large < std::max<std::int64_t>(1, options_.queue / 2)) {
            Turn turn{Event::kDeclined, declined_.front().id, std::move(declined_.front().reason)};
            declined_.pop_front();
            ++away_;
            count_queue();
            changed_.notify_all();
            return turn;
        }
        if (quiet() && ready_.empty()) {
            changed_.notify_all();  // the others' end as well
            return end();
        }
        if (help && work(lock, &workspace_of_thread())) {
            if (Clock::now() >= until) return {Event::kWait, 0, {}};
            continue;
        }
        if (changed_.wait_until(lock, until) == std::cv_status::timeout)
            return {Event::kWait, 0, {}};
    }
}

void Loader::release(std::int64_t buffer) {
    const Lock lock(mutex_);
    if (buffer < 0 || buffer >= options_.buffers || !buffers_[buffer].taken)
        throw std::invalid_argument("this batch was not taken, or was given back already");
    buffers_[buffer].ids.clear();
    buffers_[buffer].filled = 0;
    buffers_[buffer].taken = false;
    free_.push_back(buffer);
    --taken_;
    changed_.notify_all();
}

void Loader::stop() {
    const Lock lock(mutex_);
    stopped_ = true;
    for (const Photo& photo : files_) settled_.push_back(photo.id);
    for (const Photo& photo : pixels_) settled_.push_back(photo.id);
    for (const Declined& photo : declined_) settled_.push_back(photo.id);
    files_.clear();
    pixels_.clear();
    declined_.clear();
    changed_.notify_all();
}

bool Loader::stopped() {
    const Lock lock(mutex_);
    return stopped_;
}

std::vector<std::int64_t> Loader::settled() {
    const Lock lock(mutex_);
    return std::exchange(settled_, {});
}

Spent Loader::spent() {
    const Lock lock(mutex_);
    return spent_;
}

std::int64_t Loader::queued() {
    const Lock lock(mutex_);
    return waiting();
}

std::uint8_t* Loader::memory(std::int64_t buffer) const {
    return buffers_.at(buffer).memory;
}

const std::vector<std::int64_t>& Loader::ids(std::int64_t buffer) const {
    return buffers_.at(buffer).ids;
}

}  // namespace edgetl
