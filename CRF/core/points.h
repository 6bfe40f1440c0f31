// The points whose lattice is built: positions of pixels, with colours or without, or given features.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace densecrf {

// Points in feature space, already divided by the kernel's widths.
class Points {
public:
    virtual ~Points() = default;
    int dim = 0;
    int64_t count = 0;
    std::vector<double> low, high;  // bounds of each feature
    // feature[dim][kBlock] of points first .. first + n - 1.
    virtual void fill(int64_t first, int n, float* feature) const = 0;
    virtual void fill(int64_t first, int n, double* feature) const = 0;
};

// x / sx, y / sy and, where an image is given, its channels / width.
std::unique_ptr<Points> image_points(int height, int width, double sx, double sy,
                                     const uint8_t* image, const double* srgb);
// feature: (dim, count), rows `stride` apart. Throws std::invalid_argument if one is not finite.
std::unique_ptr<Points> feature_points(int dim, int64_t count, const float* feature);

}  // namespace densecrf
