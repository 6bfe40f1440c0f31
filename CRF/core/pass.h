// The loops that take the time, behind a table of function pointers: one table per instruction set.
#pragma once

#include <cstdint>

namespace densecrf {

constexpr int kBlock = 64;   // points embedded together
constexpr int kVector = 16;  // floats of the longest vector

// A float16. Tables and marginals of large lattices take half the memory traffic as such; all sums are
// of floats.
struct Half {
    uint16_t bits;
};

// Slots of one simplex that follow one another.
struct Run {
    int32_t simplex, count;
};

// One pairwise term as the pass over a tile sees it. Tables hold one row of `row` floats per vertex.
struct TermView {
    int corners;              // vertices of a simplex, feature dimension + 1
    const Run* run;           // (runs) simplices of the tile
    int runs;
    const uint16_t* place;    // (slots) pixel of the tile
    const int32_t* corner;    // (simplices, corners) vertex index
    const float* in_weight;   // (slots, corners) weights that splat
    const float* out_weight;  // (slots, corners) weights that slice
    const float* value;       // blurred table, read by slicing; null: `half_value`
    const Half* half_value;
    float* sum;               // table that splatting adds to; null: vertices gather later
    int32_t first;            // vertex of the first row of `sum`
    float scale;              // factor of what is sliced
};

// The pass over the pixels of a tile.
struct PixelPass {
    int n;                     // pixels
    int row, narrow;           // floats per row of tables and of `logit`
    int terms;
    const TermView* term;
    const float* logit;        // (pixels, narrow) negative energies; null: start from marginal_in
    const float* marginal_in;  // (pixels, row) marginals of the step before; null where `self` is 0
    float self;                // weight of the pixel's own marginal (terms that are the identity)
    bool slice, softmax, splat;
    float* stage;              // (kTilePixels, row), written
    float* kept;               // (kVector, row) room
    float* marginal_out;       // (pixels, row) or null; may equal marginal_in
    Half* half_out;            // (pixels, row) or null
};

// A rectangle of planes of `plane` values each, whose rows are `stride` apart.
struct Window {
    int height, width;
    int64_t stride, plane;
};

constexpr int kFetched = 16;  // shares between asking for a pixel's row and reading it

// A pixel that a vertex is a corner of.
struct Share {
    int32_t pixel;
    float weight;
};

// Splatting seen from the vertices: each row is written once, by one thread, in the same order.
template <typename T>
struct GatherPass {
    int64_t begin, end;      // vertices
    int row;
    const int64_t* start;    // (vertices + 1) first share of each vertex
    const Share* share;
    const T* marginal;       // (pixels, row)
    T* table;                // (vertices, row), written
};

enum Flaw { kFine = 0, kNotFinite = 1, kNoLabel = 2 };

struct Passes {
    const char* name;
    // Floats per row for so many labels.
    int (*row)(int labels);
    void (*pixel)(const PixelPass&);
    void (*gather)(const GatherPass<float>&);
    // order: vertex ids chain after chain, the last of each chain as its complement (~id).
    void (*blur)(float* table, int row, const int32_t* order, int64_t begin, int64_t end);
    // The same on float16; null where the instruction set cannot convert.
    void (*gather_half)(const GatherPass<Half>&);
    void (*blur_half)(Half* table, int row, const int32_t* order, int64_t begin, int64_t end);
    // Floats per row of `logit`, which has no reason to fill a whole vector.
    int (*narrow)(int labels);
    // Rows of `logit` = -energy of the pixels of a tile; padding and impossible labels become very
    // negative.
    Flaw (*logits)(const float* energy, const Window& window, int labels, float* logit);
    // Rows of marginals (pixels, row) of a tile to planes.
    void (*planes)(const float* rows, int row, int labels, const Window& window, float* plane);
    // target = sum of sources, which become 0; `size` is a multiple of the row.
    void (*merge)(float* target, float* const* source, int sources, int64_t size);
    // Embeds n <= kBlock points, feature[dimension][kBlock] -> base[dim + 1][kBlock] (multiples of
    // dim + 1, divided by it), rank[dim + 1][kBlock], weight[n][dim + 1].
    void (*embed)(int dim, int n, const float* feature, int32_t* base, int32_t* rank, float* weight);
    void (*embed_precise)(int dim, int n, const double* feature, int32_t* base, int32_t* rank,
                          float* weight);
};

extern const Passes kPassesBaseline;
#if defined(DENSECRF_X86)
extern const Passes kPassesAvx2;
extern const Passes kPassesAvx512;
#endif

// The fastest table this machine can run; DENSECRF_ISA=baseline|avx2|avx512 lowers the choice.
const Passes& passes();

}  // namespace densecrf
