// Numbers simplices and vertices in the order in which pixels come to them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "buffer.h"
#include "key.h"
#include "team.h"

namespace densecrf {

// Bases and ranks of simplices, and coordinates of vertices, of one kernel.
struct Geometry {
    Layout simplex, vertex;
    bool precise = false;
};

// Lookups whose memory is asked for before it is needed: keys, and simplices with all their corners.
constexpr int kAhead = 16, kSimplicesAhead = 4;

// The simplices and vertices of a range of pixels. NS, NV: words of their keys, 0 = any.
template <int NS, int NV>
class Numbers {
public:
    Numbers(const Geometry& plan, int d)
        : plan_(plan), d_(d), simplices_(plan.simplex.words), vertices_(plan.vertex.words) {
        // What takes a vertex to its neighbour along axis j: +1 everywhere, -d at j.
        step_.assign((size_t)(d + 1) * vertices_.words(), 0);
        for (int j = 0; j <= d; ++j)
            for (int i = 0; i < d; ++i) {
                const Layout::Field& f = plan.vertex.field[i];
                step_[(size_t)j * vertices_.words() + f.word] += (uint64_t)(int64_t)(i == j ? -d : 1)
                                                                 << f.shift;
            }
    }

    const KeyTable<NV>& vertices() const { return vertices_; }
    Array<int32_t> take_corners() { return std::move(corner_); }
    const uint64_t* step(int axis) const { return &step_[(size_t)axis * vertices_.words()]; }

    int32_t simplices() const { return simplices_.size(); }

    // keys: of n pixels that follow those before; simplex: number of each pixel's simplex, written.
    void add_pixels(const uint64_t* keys, int n, int32_t* simplex) {
        const int words = simplices_.words();
        bool fresh;
        for (int i = 0; i < n; ++i) {
            const uint64_t* key = keys + (size_t)i * words;
            if (i + kAhead < n) simplices_.fetch(key + kAhead * words);
            const bool again = i > 0 && std::equal(key, key + words, key - words);
            simplex[i] = again ? simplex[i - 1] : simplices_.insert(key, &fresh);
        }
    }

    // Corners of all simplices; their keys are known, and asked for, some simplices ahead.
    void add_vertices() {
        const int words = vertices_.words(), corners = d_ + 1;
        const int32_t count = simplices_.size();
        std::vector<uint64_t> ring((size_t)kSimplicesAhead * corners * words);
        std::vector<int> axis(corners);
        corner_.resize((size_t)count * corners);
        auto slot = [&](int32_t s) { return &ring[(size_t)(s % kSimplicesAhead) * corners * words]; };
        bool fresh;
        for (int32_t ahead = 0; ahead < count + kSimplicesAhead; ++ahead) {
            const int32_t s = ahead - kSimplicesAhead;
            if (s >= 0)
                for (int r = 0; r < corners; ++r)
                    corner_[(size_t)s * corners + r] = vertices_.insert(slot(s) + r * words, &fresh);
            if (ahead >= count) continue;
            find_corners(simplices_.key(ahead), axis.data(), slot(ahead));
            for (int r = 0; r < corners; ++r) vertices_.fetch(slot(ahead) + r * words);
        }
    }

    // Goes on where the pixels of `next` follow. Returns what its simplices are numbered here. One
    // object over all pixels would have given the same numbers: what is new here is new in the order
    // of `next`, as all corners of a simplex that is known are known.
    Array<int32_t> append(const Numbers& next) {
        const Array<int32_t> vertex = insert_all(next.vertices_, vertices_);
        const int32_t known = simplices_.size();
        Array<int32_t> simplex = insert_all(next.simplices_, simplices_);
        for (int32_t s = 0; s < next.simplices_.size(); ++s) {
            if (simplex[s] < known) continue;
            const int32_t* corner = &next.corner_[(size_t)s * (d_ + 1)];
            for (int v = 0; v <= d_; ++v) corner_.push_back(vertex[corner[v]]);
        }
        return simplex;
    }

private:
    template <int N>
    static Array<int32_t> insert_all(const KeyTable<N>& from, KeyTable<N>& to) {
        Array<int32_t> id(from.size());
        bool fresh;
        for (int32_t i = 0; i < from.size(); ++i) {
            if (i + kAhead < from.size()) to.fetch(from.key(i + kAhead));
            id[i] = to.insert(from.key(i), &fresh);
        }
        return id;
    }

    // Keys of a simplex's corners, those of remainder 0 to d.
    void find_corners(const uint64_t* key, int* axis, uint64_t* around) const {
        const int words = vertices_.words();
        int missing = d_ * (d_ + 1) / 2;
        std::fill(around, around + words, 0);
        for (int i = 0; i < d_; ++i) {
            const Layout::Field& f = plan_.vertex.field[i];
            const int64_t base = (int64_t)plan_.simplex.get(i, key) + plan_.simplex.field[i].low;
            const int rank = (int)plan_.simplex.get(d_ + i, key);
            around[f.word] += (uint64_t)(base * (d_ + 1) - f.low) << f.shift;
            axis[rank] = i;
            missing -= rank;
        }
        axis[missing] = d_;
        // From the vertex of remainder r to that of r + 1.
        for (int r = 0; r < d_; ++r) {
            const uint64_t* by = step(axis[d_ - r]);
            for (int w = 0; w < words; ++w)
                around[(r + 1) * words + w] = around[r * words + w] + by[w];
        }
    }

    const Geometry& plan_;
    const int d_;
    KeyTable<NS> simplices_;
    KeyTable<NV> vertices_;
    Array<int32_t> corner_;  // (simplices, corners)
    std::vector<uint64_t> step_;
};

}  // namespace densecrf
