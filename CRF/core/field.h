// Mean field inference (Kraehenbuehl and Koltun 2011) of one image.
#pragma once

#include <memory>
#include <vector>

#include "buffer.h"
#include "lattice.h"

namespace densecrf {

// How a term lets labels talk: energy[a] = sum over b of mu(a, b) (K Q)[b].
struct Compatibility {
    enum Kind { kPotts, kDiagonal, kMatrix } kind = kPotts;
    float weight = 0;           // Potts: mu = -weight * identity
    std::vector<float> entry;   // diagonal (labels) or symmetric matrix (labels, labels)
};

struct Term {
    std::shared_ptr<const Filter> filter;
    Compatibility compatibility;
};

class Field {
public:
    // half: whether large tables may hold float16.
    Field(const Tiling& tiling, int labels, bool half);

    // energy: (labels, pixels). Throws std::invalid_argument on NaN, -inf, or a pixel without any
    // possible label.
    void set_energy(const float* energy, int threads);
    void add(Term term);

    // marginal: (labels, pixels), written.
    void infer(int steps, int threads, float* marginal);
    // One step from given marginals (labels, pixels); may be written in place.
    void step(const float* from, float* marginal, int threads);
    // Divergence of the marginals from the model's distribution, up to the model's constant.
    double divergence(const float* marginal, int threads);

    int64_t pixels() const { return tiling_.pixels(); }
    int labels() const { return labels_; }

private:
    struct Buffer;
    // A term with its weights in the order of slots, normalised.
    struct Prepared {
        Array<int32_t> simplex;
        Array<float> in_weight, out_weight;  // out_weight is empty where it equals in_weight
    };
    void require_energy() const;
    void prepare(int threads);
    void group(const Filter& filter, Array<uint16_t>& rank, int threads);
    PixelPass pass(const Buffer& buffer, int member) const;
    void sweep(Buffer& buffer, const PixelPass& pass, int step, int member, float* plane) const;
    void propagate(Buffer& buffer, const float* marginal, PixelPass& pass, int member) const;
    void spread(Buffer& buffer, int step, int member) const;

    Tiling tiling_;
    int labels_, row_, narrow_;
    bool half_;
    Aligned logit_;
    std::vector<Term> term_;
    // Slots: the pixels of a tile in an order in which those of one simplex of the term `grouped_`
    // follow one another.
    int grouped_ = -1;
    bool stale_ = true;
    Array<uint16_t> rank_, place_;  // slot of each pixel, pixel of each slot
    Array<Run> run_;
    Array<int64_t> tile_run_;       // (tiles + 1) first run of each
    std::vector<Prepared> prepared_;
};

}  // namespace densecrf
