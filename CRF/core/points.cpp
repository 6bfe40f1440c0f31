#include "points.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "pass.h"

namespace densecrf {
namespace {

class ImagePoints : public Points {
public:
    ImagePoints(int height, int width, double sx, double sy, const uint8_t* image, const double* srgb)
        : width_(width),
          // A width that float32 rounds to zero would make 0 / 0 of the first row and column.
          sx_(std::max(sx, 1e-30)),
          sy_(std::max(sy, 1e-30)),
          image_(image) {
        dim = image ? 5 : 2;
        count = (int64_t)height * width;
        low.assign(dim, 0.0);
        high = {(width - 1) / sx, (height - 1) / sy};
        for (int c = 0; image && c < 3; ++c) {
            srgb_[c] = srgb[c];
            high.push_back(255 / srgb[c]);
        }
    }
    void fill(int64_t first, int n, float* feature) const override { fill_as(first, n, feature); }
    void fill(int64_t first, int n, double* feature) const override { fill_as(first, n, feature); }

private:
    template <typename T>
    void fill_as(int64_t first, int n, T* feature) const {
        int64_t y = first / width_, x = first % width_;
        for (int i = 0; i < n; ++i) {
            feature[i] = (T)x / (T)sx_;
            feature[kBlock + i] = (T)y / (T)sy_;
            if (++x == width_) x = 0, ++y;
        }
        for (int c = 0; c + 2 < dim; ++c)
            for (int i = 0; i < n; ++i)
                feature[(c + 2) * kBlock + i] = (T)image_[(first + i) * 3 + c] / (T)srgb_[c];
    }
    int width_;
    double sx_, sy_, srgb_[3] = {};
    const uint8_t* image_;
};

class FeaturePoints : public Points {
public:
    FeaturePoints(int d, int64_t n, const float* feature) : feature_(feature) {
        dim = d;
        count = n;
        for (int j = 0; j < d; ++j) {
            float least = n ? feature[j * n] : 0, most = least;
            for (int64_t i = 0; i < n; ++i) {
                const float x = feature[j * n + i];
                if (!std::isfinite(x))
                    throw std::invalid_argument("a feature is NaN or infinite; features must be finite");
                least = std::min(least, x);
                most = std::max(most, x);
            }
            low.push_back(least);
            high.push_back(most);
        }
    }
    void fill(int64_t first, int n, float* feature) const override { fill_as(first, n, feature); }
    void fill(int64_t first, int n, double* feature) const override { fill_as(first, n, feature); }

private:
    template <typename T>
    void fill_as(int64_t first, int n, T* feature) const {
        for (int j = 0; j < dim; ++j)
            for (int i = 0; i < n; ++i) feature[j * kBlock + i] = (T)feature_[j * count + first + i];
    }
    const float* feature_;
};

}  // namespace

std::unique_ptr<Points> image_points(int height, int width, double sx, double sy,
                                     const uint8_t* image, const double* srgb) {
    return std::make_unique<ImagePoints>(height, width, sx, sy, image, srgb);
}

std::unique_ptr<Points> feature_points(int dim, int64_t count, const float* feature) {
    return std::make_unique<FeaturePoints>(dim, count, feature);
}

}  // namespace densecrf
