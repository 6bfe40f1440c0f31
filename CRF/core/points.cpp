#include "points.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "pass.h"

namespace densecrf {
namespace {

// Calls job(i, pixel, row, column) for the points offset .. offset + n - 1 of a tile.
template <typename Job>
void for_points(const Tiling& tiling, const Tile& tile, int offset, int n, Job job) {
    int y = offset / tile.width, x = offset % tile.width;
    for (int i = 0; i < n; ++i) {
        const int64_t row = tile.row + y, column = tile.column + x;
        job(i, row * tiling.width + column, row, column);
        if (++x == tile.width) x = 0, ++y;
    }
}

class ImagePoints : public Points {
public:
    ImagePoints(const Tiling& t, double sx, double sy, const uint8_t* image, const double* srgb)
        : Points(t), image_(image) {
        dim = image ? 5 : 2;
        low.assign(dim, 0.0);
        high = {(t.width - 1) / sx, (t.height - 1) / sy};
        // A width that float32 rounds to zero would make 0 / 0 of the first row and column.
        x_ = Steps(t.width, std::max(sx, 1e-30));
        y_ = Steps(t.height, std::max(sy, 1e-30));
        for (int c = 0; image && c < 3; ++c) {
            colour_[c] = Steps(256, srgb[c]);
            high.push_back(255 / srgb[c]);
        }
    }
    void fill(const Tile& tile, int offset, int n, float* feature) const override {
        fill_as(tile, offset, n, feature);
    }
    void fill(const Tile& tile, int offset, int n, double* feature) const override {
        fill_as(tile, offset, n, feature);
    }

private:
    // 0, 1, 2, ... divided by a width, in both precisions.
    struct Steps {
        std::vector<float> single;
        std::vector<double> precise;
        Steps() = default;
        Steps(int64_t count, double width) : single(count), precise(count) {
            for (int64_t i = 0; i < count; ++i) {
                single[i] = (float)i / (float)width;
                precise[i] = (double)i / width;
            }
        }
        const float* get(float) const { return single.data(); }
        const double* get(double) const { return precise.data(); }
    };

    template <typename T>
    void fill_as(const Tile& tile, int offset, int n, T* feature) const {
        const T *x = x_.get(T()), *y = y_.get(T()), *r = colour_[0].get(T()), *g = colour_[1].get(T()),
                *b = colour_[2].get(T());
        for_points(tiling, tile, offset, n, [&](int i, int64_t pixel, int64_t row, int64_t column) {
            feature[i] = x[column];
            feature[kBlock + i] = y[row];
            if (!image_) return;
            const uint8_t* rgb = image_ + pixel * 3;
            feature[2 * kBlock + i] = r[rgb[0]];
            feature[3 * kBlock + i] = g[rgb[1]];
            feature[4 * kBlock + i] = b[rgb[2]];
        });
    }
    Steps x_, y_, colour_[3];
    const uint8_t* image_;
};

class FeaturePoints : public Points {
public:
    FeaturePoints(const Tiling& t, int d, const float* feature) : Points(t), feature_(feature) {
        dim = d;
        const int64_t n = count();
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
    void fill(const Tile& tile, int offset, int n, float* feature) const override {
        fill_as(tile, offset, n, feature);
    }
    void fill(const Tile& tile, int offset, int n, double* feature) const override {
        fill_as(tile, offset, n, feature);
    }

private:
    template <typename T>
    void fill_as(const Tile& tile, int offset, int n, T* feature) const {
        for_points(tiling, tile, offset, n, [&](int i, int64_t pixel, int64_t, int64_t) {
            for (int j = 0; j < dim; ++j) feature[j * kBlock + i] = (T)feature_[j * count() + pixel];
        });
    }
    const float* feature_;
};

}  // namespace

std::unique_ptr<Points> image_points(const Tiling& tiling, double sx, double sy, const uint8_t* image,
                                     const double* srgb) {
    return std::make_unique<ImagePoints>(tiling, sx, sy, image, srgb);
}

std::unique_ptr<Points> feature_points(const Tiling& tiling, int dim, const float* feature) {
    return std::make_unique<FeaturePoints>(tiling, dim, feature);
}

}  // namespace densecrf
