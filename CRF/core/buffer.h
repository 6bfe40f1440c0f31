// Floats on a cache line's boundary: a row that starts elsewhere costs two lines instead of one.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>

namespace densecrf {

class Aligned {
public:
    Aligned() = default;
    explicit Aligned(size_t size, bool clear = true)
        : size_(size), data_(static_cast<float*>(::operator new[](size * sizeof(float), kLine))) {
        if (clear) std::memset(data_.get(), 0, size * sizeof(float));
    }
    float* data() const { return data_.get(); }
    size_t size() const { return size_; }
    float& operator[](size_t i) const { return data_[i]; }
    bool empty() const { return size_ == 0; }

private:
    static constexpr std::align_val_t kLine{64};
    struct Free {
        void operator()(float* p) const { ::operator delete[](p, kLine); }
    };
    size_t size_ = 0;
    std::unique_ptr<float[], Free> data_;
};

}  // namespace densecrf
