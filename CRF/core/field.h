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
    void require_energy() const;
    PixelPass pass(const Buffer& buffer, int member) const;
    void sweep(Buffer& buffer, const PixelPass& pass, int step, int member, float* plane) const;
    void propagate(Buffer& buffer, const float* marginal, PixelPass& pass, int member) const;
    void spread(Buffer& buffer, int step, int member) const;

    Tiling tiling_;
    int labels_, row_, narrow_;
    bool half_;
    Aligned logit_;
    std::vector<Term> term_;
};

}  // namespace densecrf
