// The points whose lattice is built: positions of pixels, with colours or without, or given features.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "tiling.h"

namespace densecrf {

// Points in feature space, already divided by the kernel's widths.
class Points {
public:
    explicit Points(const Tiling& t) : tiling(t) {}
    virtual ~Points() = default;
    int64_t count() const { return tiling.pixels(); }
    Tiling tiling;
    int dim = 0;
    std::vector<double> low, high;  // bounds of each feature
    // feature[dim][kBlock] of the points offset .. offset + n - 1 of a tile.
    virtual void fill(const Tile& tile, int offset, int n, float* feature) const = 0;
    virtual void fill(const Tile& tile, int offset, int n, double* feature) const = 0;
};

// x / sx, y / sy and, where an image is given, its channels / width.
std::unique_ptr<Points> image_points(const Tiling& tiling, double sx, double sy, const uint8_t* image,
                                     const double* srgb);
// feature: (dim, pixels). Throws std::invalid_argument if one is not finite.
std::unique_ptr<Points> feature_points(const Tiling& tiling, int dim, const float* feature);

}  // namespace densecrf
