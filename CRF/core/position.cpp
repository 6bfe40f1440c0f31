// Filters of position alone depend on nothing but the size of the image, and images of a data set or a
// video often share theirs: the last few are kept.
#include <list>
#include <mutex>
#include <tuple>

#include "lattice.h"

namespace densecrf {
namespace {

constexpr size_t kKept = 4;
constexpr int64_t kLargest = 1 << 20;  // pixels; about 20 bytes each are kept

typedef std::tuple<int64_t, int64_t, double, double, Normalization> Key;

struct Kept {
    Key key;
    std::shared_ptr<const Filter> filter;
};

std::mutex mutex;
std::list<Kept> kept;  // the last used first

std::shared_ptr<const Filter> find(const Key& key) {
    std::lock_guard<std::mutex> lock(mutex);
    for (auto it = kept.begin(); it != kept.end(); ++it)
        if (it->key == key) {
            kept.splice(kept.begin(), kept, it);
            return it->filter;
        }
    return nullptr;
}

void keep(const Key& key, std::shared_ptr<const Filter> filter) {
    std::lock_guard<std::mutex> lock(mutex);
    kept.push_front({key, std::move(filter)});
    if (kept.size() > kKept) kept.pop_back();
}

}  // namespace

std::shared_ptr<const Filter> position_filter(const Tiling& tiling, double sx, double sy,
                                              Normalization normalization, int threads) {
    const Key key(tiling.height, tiling.width, sx, sy, normalization);
    if (auto filter = find(key)) return filter;
    auto filter = build_filter(*image_points(tiling, sx, sy, nullptr, nullptr), normalization, threads);
    if (filter->pixels() <= kLargest) keep(key, filter);
    return filter;
}

}  // namespace densecrf
