// Memory on a cache line's boundary, and large arrays on huge pages where the system has them:
// lattice tables are read at random, and 4 KiB pages would cost a page walk a row.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <unordered_map>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace densecrf {

// Blocks of 128 KiB and more are kept when they are freed, up to kKeptBytes, and serve the next call:
// the system would clear new pages each time. They consist of huge pages.
class Pool {
public:
    static constexpr size_t kHuge = size_t(2) << 20, kPooled = size_t(128) << 10;
    static constexpr size_t kKeptBytes = size_t(128) << 20;

    static Pool& instance() {
        static Pool* pool = new Pool;  // never destroyed: arrays may outlive the module's other objects
        return *pool;
    }
    void* allocate(size_t bytes) {
        const size_t size = (bytes + kHuge - 1) / kHuge * kHuge;
        {
            std::lock_guard<std::mutex> lock(mutex_);
            auto best = free_.end();
            for (auto it = free_.begin(); it != free_.end(); ++it)
                if (it->size >= size && it->size <= 2 * size && (best == free_.end() || it->size < best->size))
                    best = it;
            if (best != free_.end()) {
                void* p = best->data;
                used_[p] = best->size;
                kept_ -= best->size;
                free_.erase(best);
                return p;
            }
        }
        void* p = ::operator new[](size, std::align_val_t(kHuge));
#if defined(__linux__) && defined(MADV_HUGEPAGE)
        madvise(p, size, MADV_HUGEPAGE);
#endif
        std::lock_guard<std::mutex> lock(mutex_);
        used_[p] = size;
        return p;
    }
    void free(void* p) noexcept {
        std::lock_guard<std::mutex> lock(mutex_);
        const auto at = used_.find(p);
        if (free_.size() == kBlocks) drop();
        free_.push_back({p, at->second});
        kept_ += at->second;
        used_.erase(at);
        while (kept_ > kKeptBytes) drop();
    }
    void release() {
        std::lock_guard<std::mutex> lock(mutex_);
        while (!free_.empty()) drop();
    }

private:
    static constexpr size_t kBlocks = 64;
    struct Block {
        void* data;
        size_t size;
    };
    Pool() { free_.reserve(kBlocks); }
    // The block that has been free for longest.
    void drop() {
        kept_ -= free_.front().size;
        ::operator delete[](free_.front().data, std::align_val_t(kHuge));
        free_.erase(free_.begin());
    }
    std::mutex mutex_;
    std::vector<Block> free_;
    std::unordered_map<void*, size_t> used_;
    size_t kept_ = 0;
};

inline void* allocate_bytes(size_t bytes) {
    if (bytes >= Pool::kPooled) return Pool::instance().allocate(bytes);
    return ::operator new[](bytes ? bytes : 1, std::align_val_t(64));
}

inline void free_bytes(void* p, size_t bytes) {
    if (bytes >= Pool::kPooled) Pool::instance().free(p);
    else ::operator delete[](p, std::align_val_t(64));
}

template <typename T>
struct Allocator {
    typedef T value_type;
    Allocator() = default;
    template <typename U>
    Allocator(const Allocator<U>&) {}
    T* allocate(size_t n) { return static_cast<T*>(allocate_bytes(n * sizeof(T))); }
    void deallocate(T* p, size_t n) { free_bytes(p, n * sizeof(T)); }
    bool operator==(const Allocator&) const { return true; }
    bool operator!=(const Allocator&) const { return false; }
};

template <typename T>
using Array = std::vector<T, Allocator<T>>;

// Floats that may start without a value, unlike those of a vector.
class Aligned {
public:
    Aligned() = default;
    explicit Aligned(size_t size, bool clear = true)
        : size_(size),
          data_(static_cast<float*>(allocate_bytes(size * sizeof(float))), Free{size * sizeof(float)}) {
        if (clear) std::memset(data_.get(), 0, size * sizeof(float));
    }
    float* data() const { return data_.get(); }
    size_t size() const { return size_; }
    float& operator[](size_t i) const { return data_.get()[i]; }
    bool empty() const { return size_ == 0; }

private:
    struct Free {
        Free() : bytes(0) {}
        explicit Free(size_t n) : bytes(n) {}
        size_t bytes;
        void operator()(float* p) const { free_bytes(p, bytes); }
    };
    size_t size_ = 0;
    std::unique_ptr<float, Free> data_;
};

}  // namespace densecrf
