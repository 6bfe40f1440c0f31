// Memory on a cache line's boundary, and large arrays on huge pages where the system has them:
// lattice tables are read at random, and 4 KiB pages would cost a page walk a row.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace densecrf {

inline void* allocate_bytes(size_t bytes) {
    constexpr size_t kHuge = size_t(2) << 20;
    const size_t align = bytes >= 2 * kHuge ? kHuge : 64;
    void* p = ::operator new[](bytes ? bytes : 1, std::align_val_t(align));
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (align == kHuge) madvise(p, bytes / kHuge * kHuge, MADV_HUGEPAGE);
#endif
    return p;
}

inline void free_bytes(void* p, size_t bytes) {
    ::operator delete[](p, std::align_val_t(bytes >= (size_t(4) << 20) ? size_t(2) << 20 : 64));
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
