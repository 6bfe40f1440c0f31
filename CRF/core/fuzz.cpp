// Random models through every public path of the core, for a build with sanitizers; see README.md.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <stdexcept>

#include "field.h"

using namespace densecrf;

int main(int argc, char** argv) {
    const int rounds = argc > 1 ? std::atoi(argv[1]) : 1000;
    std::mt19937 random(argc > 2 ? std::atoi(argv[2]) : 0);
    auto pick = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
    auto real = [&](double low, double high) {
        return std::uniform_real_distribution<double>(low, high)(random);
    };
    int refused = 0;
    for (int round = 0; round < rounds; ++round) {
        // A few are large enough for lattices whose vertices gather, and for several segments.
        const int most = pick(0, 19) ? 40 : 180;
        const int height = pick(1, most), width = pick(1, most), threads = pick(1, 4);
        const int labels = pick(0, 3) ? pick(1, 24) : pick(1, 255);
        const int64_t pixels = (int64_t)height * width;
        std::vector<uint8_t> image(pixels * 3);
        const int contrast = pick(0, 255);
        for (auto& x : image) x = (uint8_t)pick(0, contrast);
        std::vector<float> energy(pixels * labels), marginal(energy.size());
        for (auto& x : energy) x = (float)real(-10, 10);
        const float odd[] = {NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 0, 1e-40f};
        if (pick(0, 3) == 0) energy[pick(0, (int)energy.size() - 1)] = odd[pick(0, 6)];
        try {
            const Tiling tiling = pick(0, 4) ? Tiling(height, width) : Tiling(1, pixels);
            Field field(tiling, labels, pick(0, 1));
            const bool early = pick(0, 2) == 0;  // the rows are rearranged later
            if (early) field.set_energy(energy.data(), threads);
            for (int kernels = pick(0, 3); kernels > 0; --kernels) {
                std::unique_ptr<Points> points;
                std::vector<float> feature;
                const double sx = std::pow(10, real(-7, 5)), sy = std::pow(10, real(-2, 3));
                const double rgb[] = {real(1, 99), real(0.01, 99), std::pow(10, real(-2, 5))};
                if (pick(0, 2) == 0) {
                    const int dim = pick(0, 9) || pixels > 64 ? pick(1, 8) : pick(0, 256);
                    feature.resize(dim * pixels);
                    const double spread = std::pow(10, real(-3, 9));
                    for (auto& x : feature) x = (float)real(-spread, spread);
                    points = feature_points(tiling, dim, feature.data());
                } else {
                    points = image_points(tiling, sx, sy, pick(0, 1) ? image.data() : nullptr, rgb);
                }
                Compatibility mu;
                mu.kind = (Compatibility::Kind)pick(0, 2);
                mu.weight = (float)real(-20, 20);
                if (mu.kind != Compatibility::kPotts)
                    mu.entry.resize(mu.kind == Compatibility::kDiagonal ? labels : labels * labels);
                for (auto& x : mu.entry) x = (float)real(-5, 5);
                field.add({build_filter(*points, (Normalization)pick(0, 3), threads), mu});
            }
            if (!early) field.set_energy(energy.data(), threads);
            field.infer(pick(0, 4), threads, marginal.data());
            field.step(marginal.data(), marginal.data(), threads);
            field.divergence(marginal.data(), threads);
            for (float x : marginal)
                if (!(x >= 0 && x <= 1.0001f)) {
                    std::printf("round %d: a marginal is %g\n", round, x);
                    return 1;
                }
        } catch (const std::invalid_argument&) {
            ++refused;
        }
    }
    std::printf("%d rounds, %d refused with a reason\n", rounds, refused);
    return 0;
}
