// Python bindings. Shapes and types are checked in Python, where the message can name the argument;
// what is checked again here keeps memory safe.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>

#include "field.h"
#include "team.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace densecrf {
namespace {

typedef nb::ndarray<const float, nb::c_contig, nb::device::cpu> Floats;
typedef nb::ndarray<const uint8_t, nb::ndim<4>, nb::c_contig, nb::device::cpu> Images;
typedef nb::ndarray<float, nb::numpy> Result;

// A kernel of a batched call. `width`: sx, sy, and r, g, b where the image counts; empty where
// `feature` (images, dim, pixels) says it all. `compatibility`: 1 value, (labels) or (labels, labels).
struct Kernel {
    std::vector<double> width;
    std::optional<Floats> feature;
    Compatibility compatibility;
    Normalization normalization = Normalization::kSymmetric;
};

Result own(std::vector<size_t> shape, float** data) {
    size_t size = 1;
    for (size_t s : shape) size *= s;
    auto memory = std::make_unique<Aligned>(size, false);
    *data = memory->data();
    nb::capsule owner(memory.get(), [](void* p) noexcept { delete static_cast<Aligned*>(p); });
    memory.release();
    return Result(*data, shape.size(), shape.data(), owner);
}

void need(bool good, const char* message) {
    if (!good) throw std::invalid_argument(message);
}

Compatibility compatibility(const Floats& value, size_t labels) {
    Compatibility c;
    const float* p = value.data();
    for (size_t i = 0; i < value.size(); ++i)
        need(std::fabs(p[i]) <= 1e30f, "compat must be finite and at most 1e30 in size");
    if (value.ndim() == 0) {
        c.weight = p[0];
    } else if (value.ndim() == 1) {
        need(value.shape(0) == labels, "a compat vector must have one entry per label");
        c.kind = Compatibility::kDiagonal;
        c.entry.assign(p, p + labels);
    } else {
        need(value.ndim() == 2 && value.shape(0) == labels && value.shape(1) == labels,
             "a compat matrix must be (labels, labels)");
        c.kind = Compatibility::kMatrix;
        c.entry.resize(labels * labels);
        for (size_t a = 0; a < labels; ++a)
            for (size_t b = 0; b < labels; ++b)
                c.entry[a * labels + b] = 0.5f * (p[a * labels + b] + p[b * labels + a]);
    }
    return c;
}

Normalization normalization(int code) {
    need(code >= 0 && code <= 3, "normalization must be 0 (none), 1 (before), 2 (after) or 3 (symmetric)");
    return static_cast<Normalization>(code);
}

std::vector<Kernel> parse(const nb::list& list, size_t images, size_t labels, size_t pixels) {
    std::vector<Kernel> kernels;
    for (nb::handle item : list) {
        const nb::tuple t = nb::cast<nb::tuple>(item);
        Kernel k;
        k.width = nb::cast<std::vector<double>>(t[0]);
        if (!t[1].is_none()) {
            k.feature = nb::cast<Floats>(t[1], false);
            need(k.feature->ndim() == 3 && k.feature->shape(0) == images &&
                     k.feature->shape(2) == pixels,
                 "features must be (images, dimension, pixels)");
        } else {
            need(k.width.size() == 2 || k.width.size() == 5, "a kernel needs 2 or 5 widths");
            for (double w : k.width)
                need(w > 0 && std::isfinite(w), "kernel widths must be positive and finite");
        }
        k.compatibility = compatibility(nb::cast<Floats>(t[2], false), labels);
        k.normalization = normalization(nb::cast<int>(t[3]));
        kernels.push_back(std::move(k));
    }
    return kernels;
}

Result mean_field(const nb::ndarray<const float, nb::ndim<4>, nb::c_contig, nb::device::cpu>& unary,
                  const std::optional<Images>& image, const nb::list& list, int steps, int threads,
                  bool half) {
    const size_t images = unary.shape(0), labels = unary.shape(1);
    const size_t height = unary.shape(2), width = unary.shape(3), pixels = height * width;
    need(labels >= 1 && height >= 1 && width >= 1, "unary must not be empty");
    need(height < (1u << 30) && width < (1u << 30) && labels < (1u << 24), "unary is too large");
    need(steps >= 0 && threads >= 1, "steps must not be negative, threads not below 1");
    std::vector<Kernel> kernels = parse(list, images, labels, pixels);
    for (const Kernel& k : kernels)
        need(k.width.size() != 5 || image, "a bilateral kernel needs an image");
    if (image)
        need(image->shape(0) == images && image->shape(1) == height && image->shape(2) == width &&
                 image->shape(3) == 3,
             "image must be (images, height, width, 3)");
    float* out;
    Result result = own({images, labels, height, width}, &out);
    const float* in = unary.data();
    const uint8_t* rgb = image ? image->data() : nullptr;

    nb::gil_scoped_release release;
    if (images == 0) return result;
    const int crew = (int)std::min<size_t>(threads, images);
    const int each = threads / crew;
    const Tiling tiling((int64_t)height, (int64_t)width);
    // A kernel of position alone is the same for every image of the batch.
    std::vector<std::shared_ptr<const Filter>> shared(kernels.size());
    for (size_t k = 0; k < kernels.size(); ++k)
        if (kernels[k].width.size() == 2)
            shared[k] = position_filter(tiling, kernels[k].width[0], kernels[k].width[1],
                                        kernels[k].normalization, threads);
    std::atomic<size_t> next{0};
    run_team(crew, [&](int) {
        for (size_t n = next++; n < images; n = next++) {
            Field field(tiling, (int)labels, half);
            for (size_t k = 0; k < kernels.size(); ++k) {
                auto filter = shared[k];
                if (!filter) {
                    const Kernel& kernel = kernels[k];
                    std::unique_ptr<Points> points;
                    if (kernel.feature)
                        points = feature_points(
                            tiling, (int)kernel.feature->shape(1),
                            kernel.feature->data() + n * kernel.feature->shape(1) * pixels);
                    else
                        points = image_points(tiling, kernel.width[0], kernel.width[1],
                                              rgb + n * pixels * 3, &kernel.width[2]);
                    filter = build_filter(*points, kernel.normalization, each);
                }
                field.add({filter, kernels[k].compatibility});
            }
            field.set_energy(in + n * labels * pixels, each);
            field.infer(steps, each, out + n * labels * pixels);
        }
    });
    return result;
}

// ---- one model, step by step ----

typedef nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu> Matrix;

class Model {
public:
    // height is 1 where the variables are no image.
    Model(int64_t height, int64_t width, int labels, bool half)
        : tiling_(check(height, width, labels)), field_(tiling_, labels, half) {}

    void set_energy(const Matrix& energy, int threads) {
        check(energy);
        need(threads >= 1, "threads must not be below 1");
        nb::gil_scoped_release release;
        std::lock_guard<std::mutex> lock(mutex_);
        field_.set_energy(energy.data(), threads);
    }

    void add(const Matrix& feature, const Floats& compat, int code, int threads) {
        need(threads >= 1, "threads must not be below 1");
        need(feature.shape(1) == (size_t)field_.pixels(), "features must be (dimension, pixels)");
        Term term;
        term.compatibility = compatibility(compat, field_.labels());
        const Normalization kind = normalization(code);
        nb::gil_scoped_release release;
        term.filter = build_filter(
            *feature_points(tiling_, (int)feature.shape(0), feature.data()), kind, threads);
        std::lock_guard<std::mutex> lock(mutex_);
        field_.add(std::move(term));
    }

    Result infer(int steps, int threads) {
        need(steps >= 0 && threads >= 1, "steps must not be negative, threads not below 1");
        float* out;
        Result result = own({(size_t)field_.labels(), (size_t)field_.pixels()}, &out);
        nb::gil_scoped_release release;
        std::lock_guard<std::mutex> lock(mutex_);
        field_.infer(steps, threads, out);
        return result;
    }

    Result step(const Matrix& marginal, int threads) {
        check(marginal);
        need(threads >= 1, "threads must not be below 1");
        float* out;
        Result result = own({(size_t)field_.labels(), (size_t)field_.pixels()}, &out);
        nb::gil_scoped_release release;
        std::lock_guard<std::mutex> lock(mutex_);
        field_.step(marginal.data(), out, threads);
        return result;
    }

    double divergence(const Matrix& marginal, int threads) {
        check(marginal);
        need(threads >= 1, "threads must not be below 1");
        nb::gil_scoped_release release;
        std::lock_guard<std::mutex> lock(mutex_);
        return field_.divergence(marginal.data(), threads);
    }

private:
    static Tiling check(int64_t height, int64_t width, int labels) {
        need(height >= 1 && width >= 1 && labels >= 1, "a model needs at least one pixel and one label");
        need(height <= std::numeric_limits<int32_t>::max() / width, "too many pixels");
        need(labels < (1 << 24), "too many labels");
        return Tiling(height, width);
    }
    void check(const Matrix& m) const {
        need(m.shape(0) == (size_t)field_.labels() && m.shape(1) == (size_t)field_.pixels(),
             "the array must be (labels, pixels)");
    }
    Tiling tiling_;
    Field field_;
    std::mutex mutex_;
};

}  // namespace
}  // namespace densecrf

NB_MODULE(_core, m) {
    using namespace densecrf;
    m.doc() = "Mean field over permutohedral lattices; see densecrf for the interface.";
    m.def("mean_field", &mean_field, "unary"_a.noconvert(), "image"_a.noconvert().none(), "kernels"_a,
          "steps"_a, "threads"_a, "half"_a);
    m.def(
        "release_memory", [] { Pool::instance().release(); },
        "Returns memory to the system that was kept for the next call, 128 MiB at most.");
    m.def("instruction_set", [] { return std::string(passes().name); });
    nb::class_<Model>(m, "Model")
        .def(nb::init<int64_t, int64_t, int, bool>(), "height"_a, "width"_a, "labels"_a, "half"_a)
        .def("set_energy", &Model::set_energy, "energy"_a.noconvert(), "threads"_a)
        .def("add", &Model::add, "feature"_a.noconvert(), "compat"_a.noconvert(), "normalization"_a,
             "threads"_a)
        .def("infer", &Model::infer, "steps"_a, "threads"_a)
        .def("step", &Model::step, "marginal"_a.noconvert(), "threads"_a)
        .def("divergence", &Model::divergence, "marginal"_a.noconvert(), "threads"_a);
}
