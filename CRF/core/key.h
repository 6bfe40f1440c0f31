// Packed keys of lattice points, and a hash table that numbers them in the order they come.
#pragma once

#include <cstdint>
#include <limits>
#include <stdexcept>
#include <vector>

#include "buffer.h"

namespace densecrf {

// Coordinates of a vertex, or base and ranks of a simplex, as bit fields of 64-bit words. No field
// crosses a word, so that keys can be added word by word.
struct Layout {
    struct Field {
        int word, shift;
        int64_t low;
    };
    std::vector<Field> field;
    int words = 1;
    int used = 0;

    uint64_t get(int index, const uint64_t* key) const {
        const Field& f = field[index];
        const bool last = index + 1 == (int)field.size() || field[index + 1].word != f.word;
        const int bits = last ? 64 - f.shift : field[index + 1].shift - f.shift;
        const uint64_t mask = bits >= 64 ? ~0ull : (1ull << bits) - 1;
        return (key[f.word] >> f.shift) & mask;
    }

    void add(int64_t low, int64_t high) {
        int bits = 1;
        while (((uint64_t)(high - low) >> bits) != 0) ++bits;
        if (used + bits > 64) ++words, used = 0;
        field.push_back({words - 1, used, low});
        used += bits;
    }
};

// Open addressing; N words a key, 0 = as many as the layout says.
template <int N>
class KeyTable {
public:
    explicit KeyTable(int words) : words_(N > 0 ? N : words) { resize(1 << 12); }

    int words() const { return N > 0 ? N : words_; }
    int32_t size() const { return size_; }
    const uint64_t* key(int32_t id) const { return keys_.data() + (size_t)id * words(); }

    int32_t insert(const uint64_t* key, bool* fresh) {
        size_t at = hash(key) & mask_;
        for (; slot_[at].id >= 0; at = (at + 1) & mask_)
            if (same(slot_[at], key)) return *fresh = false, slot_[at].id;
        if (size_ == std::numeric_limits<int32_t>::max())
            throw std::invalid_argument("the lattice has more than 2^31 vertices; use wider kernels");
        const int32_t id = size_++;
        slot_[at] = {key[0], id};
        keys_.insert(keys_.end(), key, key + words());
        *fresh = true;
        if ((size_t)size_ * 2 > slot_.size()) resize(slot_.size() * 2);
        return id;
    }

    int32_t find(const uint64_t* key) const {
        size_t at = hash(key) & mask_;
        for (; slot_[at].id >= 0; at = (at + 1) & mask_)
            if (same(slot_[at], key)) return slot_[at].id;
        return -1;
    }

    void fetch(const uint64_t* key) const {
#if defined(__GNUC__) || defined(__clang__)
        __builtin_prefetch(&slot_[hash(key) & mask_]);
#else
        (void)key;
#endif
    }

private:
    struct Slot {
        uint64_t first;
        int32_t id;
    };
    bool same(const Slot& slot, const uint64_t* key) const {
        if (slot.first != key[0]) return false;
        for (int w = 1; w < words(); ++w)
            if (keys_[(size_t)slot.id * words() + w] != key[w]) return false;
        return true;
    }
    size_t hash(const uint64_t* key) const {
        uint64_t h = 0;
        for (int w = 0; w < words(); ++w) {
            h = (h ^ key[w]) * 0x9E3779B97F4A7C15ull;
            h ^= h >> 29;
        }
        return (size_t)(h ^ (h >> 17));
    }
    void resize(size_t slots) {
        slot_.assign(slots, Slot{0, -1});
        mask_ = slots - 1;
        for (int32_t id = 0; id < size_; ++id) {
            size_t at = hash(key(id)) & mask_;
            while (slot_[at].id >= 0) at = (at + 1) & mask_;
            slot_[at] = {key(id)[0], id};
        }
    }
    int words_;
    int32_t size_ = 0;
    size_t mask_ = 0;
    Array<Slot> slot_;
    Array<uint64_t> keys_;
};

}  // namespace densecrf
