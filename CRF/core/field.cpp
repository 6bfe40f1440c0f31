#include "field.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "team.h"

namespace densecrf {
namespace {

// The part of the vertices whose shares are `member`'s portion of all.
Range share_gathering(const Filter& filter, int member, int members) {
    const auto& start = filter.start;
    auto cut = [&](int64_t m) {
        return std::lower_bound(start.begin(), start.end(), start.back() * m / members) - start.begin();
    };
    return {cut(member), cut(member + 1)};
}

// Energies of vertices from marginals there: compatibility is linear, so that it may act on
// vertices, which are fewer than pixels.
void mix(const Compatibility& mu, int labels, int row, Range range, float* table) {
    std::vector<float> mixed(labels);
    for (int64_t v = range.begin; v < range.end; ++v) {
        float* at = table + v * row;
        for (int a = 0; a < labels; ++a) {
            if (mu.kind == Compatibility::kDiagonal) {
                mixed[a] = mu.entry[a] * at[a];
            } else {
                float sum = 0;
                for (int b = 0; b < labels; ++b) sum += mu.entry[(size_t)a * labels + b] * at[b];
                mixed[a] = sum;
            }
        }
        std::copy(mixed.begin(), mixed.end(), at);
    }
}

Window window(const Tiling& tiling, const Tile& tile) {
    return {tile.height, tile.width, tiling.width, tiling.pixels()};
}

bool is_self(const Term& term) {
    return term.filter->identity && term.compatibility.kind == Compatibility::kPotts;
}

// The tables of one term. To a small table all segments of pixels splat, each to a part of its own. The
// vertices of a large one gather from the marginals of all pixels: its rows are written once, in order.
struct Table {
    const Term* term;
    const Filter* filter;
    bool half;  // rows are float16
    Aligned value;
    std::vector<Aligned> part;  // [segment]

    Table(const Term& t, int row, bool allow_half) : term(&t), filter(t.filter.get()) {
        half = allow_half && filter->half && passes().gather_half &&
               t.compatibility.kind == Compatibility::kPotts;
        value = Aligned((size_t)filter->vertices * row / (half ? 2 : 1), false);
        for (const Range& reach : filter->reach)
            part.emplace_back((size_t)(std::max<int64_t>(reach.end - reach.begin, 0) * row));
    }
    Half* halves() const { return reinterpret_cast<Half*>(value.data()); }

    TermView view(int segment) const {
        const Compatibility& mu = term->compatibility;
        TermView v{};
        v.corners = filter->corners;
        v.corner = filter->corner.data();
        v.value = half ? nullptr : value.data();
        v.half_value = half ? halves() : nullptr;
        v.sum = part.empty() ? nullptr : part[segment].data();
        v.first = part.empty() ? 0 : (int32_t)filter->reach[segment].begin;
        v.scale = mu.kind == Compatibility::kPotts ? mu.weight * filter->gain : -filter->gain;
        v.ahead = filter->gathers();
        return v;
    }

    // What the segments splatted to vertices in `range`, which is cleared for the next step.
    void merge(Range range, int row) const {
        std::fill(value.data() + range.begin * row, value.data() + range.end * row, 0.0f);
        for (size_t s = 0; s < part.size(); ++s) {
            const Range& reach = filter->reach[s];
            const int64_t begin = std::max(range.begin, reach.begin);
            const int64_t end = std::min(range.end, reach.end);
            if (begin < end)
                passes().merge(value.data() + begin * row, part[s].data() + (begin - reach.begin) * row,
                               (end - begin) * row);
        }
    }

    void gather(Range range, int row, const float* rows, const Half* half_rows) const {
        const int64_t* start = filter->start.data();
        const Share* share = filter->share.data();
        if (half)
            passes().gather_half({range.begin, range.end, row, start, share, half_rows, halves()});
        else
            passes().gather({range.begin, range.end, row, start, share, rows, value.data()});
    }

    void blur(size_t axis, int row, int member, int members) const {
        const auto& order = filter->order[axis];
        const Range range = share_chains(order, member, members);
        if (half)
            passes().blur_half(halves(), row, order.data(), range.begin, range.end);
        else
            passes().blur(value.data(), row, order.data(), range.begin, range.end);
    }
};

// The weights of a tile's pixels in the order of slots, normalised. C: corners, 0 = any.
template <int C>
void arrange(const Filter& f, const Tile& tile, const uint16_t* place, int32_t* simplex, float* in,
             float* out) {
    const int corners = C > 0 ? C : f.corners;
    for (int s = 0; s < tile.pixels(); ++s, in += corners) {
        const int64_t pixel = tile.first + place[s];
        const float* weight = &f.weight[pixel * corners];
        const float factor = f.factor.empty() ? 1.0f : f.factor[pixel];
        const float first = f.factor_in ? factor : 1.0f;
        simplex[s] = f.simplex[pixel];
        for (int v = 0; v < corners; ++v) in[v] = weight[v] * first;
        if (!out) continue;
        for (int v = 0; v < corners; ++v) out[v] = weight[v] * (f.factor_out ? factor : 1.0f);
        out += corners;
    }
}

}  // namespace

// What one inference works on.
struct Field::Buffer {
    std::vector<Table> table;
    std::vector<int> index;        // [table] its term
    std::vector<Aligned> scratch;  // [member] stages of a pass, then rows of a tile
    Aligned rows, half;            // marginals (pixels, row), where they must be kept
    float self = 0;
    int members;
    Barrier barrier;
    std::atomic<int> ticket[2] = {{0}, {0}};  // next segment of even and of odd steps

    Buffer(const Field& field, int threads, bool shortcut, bool keep)
        : members(threads), barrier(threads) {
        bool halve = false;
        const int row = field.row_;
        for (size_t k = 0; k < field.term_.size(); ++k) {
            const Term& t = field.term_[k];
            if (shortcut && is_self(t)) {
                self += t.compatibility.weight;
                continue;
            }
            table.emplace_back(t, row, field.half_);
            index.push_back((int)k);
            keep |= t.filter->gathers() && !table.back().half;
            halve |= table.back().half;
        }
        if (keep || self != 0) rows = Aligned((size_t)field.pixels() * row, false);
        if (halve) half = Aligned((size_t)field.pixels() * row / 2, false);
        for (int m = 0; m < members; ++m)
            scratch.emplace_back((size_t)(2 * kStage + std::min<int64_t>(kTilePixels, field.pixels())) * row);
    }

    Half* halves() const { return half.empty() ? nullptr : reinterpret_cast<Half*>(half.data()); }
};

Field::Field(const Tiling& tiling, int labels, bool half)
    : tiling_(tiling), labels_(labels), row_(passes().row(labels)), narrow_(passes().narrow(labels)),
      half_(half) {
    rank_.resize(pixels());
    for (int64_t t = 0; t < tiling_.count(); ++t) {
        const Tile tile = tiling_.tile(t);
        for (int i = 0; i < tile.pixels(); ++i) rank_[tile.first + i] = (uint16_t)i;
    }
}

void Field::add(Term term) {
    term_.push_back(std::move(term));
    stale_ = true;
}

void Field::set_energy(const float* energy, int threads) {
    prepare(threads);
    logit_ = Aligned((size_t)pixels() * narrow_, false);
    std::vector<Flaw> flaw(threads, kFine);
    run_team(threads, [&](int member) {
        const Range tiles = portion(tiling_.count(), member, threads);
        for (int64_t t = tiles.begin; t < tiles.end; ++t) {
            const Tile tile = tiling_.tile(t);
            flaw[member] = std::max(
                flaw[member], passes().logits(energy + tile.row * tiling_.width + tile.column,
                                              window(tiling_, tile), labels_, &rank_[tile.first],
                                              logit_.data() + tile.first * narrow_));
        }
    });
    for (Flaw f : flaw) {
        if (f != kFine) logit_ = Aligned();
        if (f == kNotFinite)
            throw std::invalid_argument(
                "unary holds NaN or -inf; energies must be numbers (+inf means: never this label)");
        if (f == kNoLabel)
            throw std::invalid_argument(
                "unary is +inf (or above 1e30) for every label of some pixel; leave one label possible");
    }
}

void Field::require_energy() const {
    if (logit_.empty()) throw std::invalid_argument("no unary energy was set");
}

// Chooses the order of slots and brings everything that is kept by pixel into it.
void Field::prepare(int threads) {
    if (!stale_) return;
    // Rows of a table that need not be read and written anew, per pixel.
    double most = 0.25;
    int best = -1;
    for (size_t k = 0; k < term_.size(); ++k) {
        const Filter& f = *term_[k].filter;
        if (is_self(term_[k]) || (f.corners != 3 && f.corners != 6)) continue;
        const double saved = f.corners * (1 - (double)f.groups / f.pixels()) * (f.gathers() ? 1 : 2);
        if (saved > most) most = saved, best = (int)k;
    }
    grouped_ = best;
    Array<uint16_t> rank = rank_;
    if (best >= 0) group(*term_[best].filter, rank, threads);
    place_.resize(pixels());
    prepared_.clear();
    for (const Term& term : term_) {
        const Filter& f = *term.filter;
        const size_t size = f.weight.size();
        Prepared p;
        p.simplex.resize(f.pixels());
        p.in_weight.resize(size);
        if (!f.factor.empty() && f.factor_in != f.factor_out) p.out_weight.resize(size);
        prepared_.push_back(std::move(p));
    }
    std::vector<Aligned> moved;
    for (int m = 0; m < threads && !logit_.empty(); ++m)
        moved.emplace_back((size_t)kTilePixels * narrow_, false);
    run_team(threads, [&](int member) {
        const Range tiles = portion(tiling_.count(), member, threads);
        for (int64_t t = tiles.begin; t < tiles.end; ++t) {
            const Tile tile = tiling_.tile(t);
            const int n = tile.pixels();
            if (!logit_.empty()) {
                float *rows = logit_.data() + tile.first * narrow_, *copy = moved[member].data();
                for (int i = 0; i < n; ++i)
                    std::copy_n(rows + rank_[tile.first + i] * narrow_, narrow_,
                                copy + rank[tile.first + i] * narrow_);
                std::copy_n(copy, (size_t)n * narrow_, rows);
            }
            for (int i = 0; i < n; ++i) place_[tile.first + rank[tile.first + i]] = (uint16_t)i;
            for (size_t k = 0; k < term_.size(); ++k) {
                const Filter& f = *term_[k].filter;
                Prepared& p = prepared_[k];
                const int64_t at = tile.first * f.corners;
                const auto by = f.corners == 3 ? arrange<3> : f.corners == 6 ? arrange<6> : arrange<0>;
                by(f, tile, &place_[tile.first], &p.simplex[tile.first], &p.in_weight[at],
                   p.out_weight.empty() ? nullptr : &p.out_weight[at]);
            }
        }
    });
    rank_ = std::move(rank);
    stale_ = false;
}

// Slots of pixels such that those of one simplex follow one another: simplices of few pixels first, as
// loops over so many pixels each are then predicted.
void Field::group(const Filter& filter, Array<uint16_t>& rank, int threads) {
    struct Seen {
        int32_t tile, group;
    };
    std::vector<Array<Run>> runs(threads);
    tile_run_.assign(tiling_.count() + 1, 0);
    run_team(threads, [&](int member) {
        Array<Seen> seen(filter.simplices(), Seen{-1, 0});
        int group[kTilePixels], next[kTilePixels + 1];
        Run found[kTilePixels], sorted[kTilePixels];
        const Range tiles = portion(tiling_.count(), member, threads);
        for (int64_t t = tiles.begin; t < tiles.end; ++t) {
            const Tile tile = tiling_.tile(t);
            const int n = tile.pixels(), mark = (int)(t - tiles.begin);
            const int32_t* simplex = &filter.simplex[tile.first];
            int groups = 0;
            for (int i = 0; i < n; ++i) {
                Seen& s = seen[simplex[i]];
                if (s.tile != mark) {
                    found[groups] = {simplex[i], 0};
                    s = {mark, groups++};
                }
                ++found[group[i] = s.group].count;
            }
            std::fill(next, next + n + 1, 0);
            for (int g = 0; g < groups; ++g) ++next[found[g].count];
            int sum = 0, sizes = 0;
            for (int size = 1; size <= n; ++size) sum += std::exchange(next[size], sum);
            int where[kTilePixels], begin[kTilePixels];
            for (int g = 0; g < groups; ++g) sorted[where[g] = next[found[g].count]++] = found[g];
            Array<Run>& list = runs[member];
            const size_t before = list.size();
            for (int g = 0; g < groups; ++g) {
                begin[g] = sizes;
                for (int left = sorted[g].count; left > 0;) {
                    const int part = std::min(left, kStage - sizes % kStage);
                    list.push_back({sorted[g].simplex, part});
                    left -= part;
                    sizes += part;
                }
            }
            tile_run_[t + 1] = (int64_t)(list.size() - before);
            for (int i = 0; i < n; ++i) rank[tile.first + i] = (uint16_t)begin[where[group[i]]]++;
        }
    });
    for (int64_t t = 0; t < tiling_.count(); ++t) tile_run_[t + 1] += tile_run_[t];
    run_ = std::move(runs[0]);
    for (int m = 1; m < threads; ++m) run_.insert(run_.end(), runs[m].begin(), runs[m].end());
}

PixelPass Field::pass(const Buffer& buffer, int member) const {
    PixelPass pass{};
    pass.labels = labels_;
    pass.row = row_;
    pass.narrow = narrow_;
    pass.scratch = buffer.scratch[member].data();
    pass.half_out = buffer.halves();
    return pass;
}

// The pass over all pixels: members take segments until none is left. Pointers of `all` are those of
// the first tile; marginals go to `plane` too, where that is given.
void Field::sweep(Buffer& buffer, const PixelPass& all, int step, int member, float* plane) const {
    const int count = segments(pixels()), tables = (int)buffer.table.size();
    auto& ticket = buffer.ticket[step % 2];
    std::vector<TermView> first(tables), view(tables);
    for (int s = ticket++; s < count; s = ticket++) {
        for (int k = 0; k < tables; ++k) first[k] = buffer.table[k].view(s);
        const Range tiles = segment_tiles(tiling_, s);
        for (int64_t t = tiles.begin; t < tiles.end; ++t) {
            const Tile tile = tiling_.tile(t);
            const int64_t at = tile.first * row_;
            for (int k = 0; k < tables; ++k) {
                const Prepared& p = prepared_[buffer.index[k]];
                const int64_t corner = tile.first * first[k].corners;
                view[k] = first[k];
                view[k].simplex = &p.simplex[tile.first];
                view[k].in_weight = &p.in_weight[corner];
                view[k].out_weight = p.out_weight.empty() ? view[k].in_weight : &p.out_weight[corner];
                view[k].run = buffer.index[k] == grouped_ ? &run_[tile_run_[t]] : nullptr;
            }
            PixelPass pass = all;
            pass.n = tile.pixels();
            pass.term = view.data();
            pass.terms = tables;
            pass.place = &place_[tile.first];
            if (all.logit) pass.logit += tile.first * narrow_;
            if (all.marginal_in) pass.marginal_in += at;
            if (all.marginal_out) pass.marginal_out += at;
            if (all.half_out) pass.half_out += at;
            if (plane) pass.marginal_out = pass.scratch + 2 * kStage * row_;
            passes().pixel(pass);
            if (plane)
                passes().planes(pass.marginal_out, row_, labels_, window(tiling_, tile),
                                plane + tile.row * tiling_.width + tile.column);
        }
    }
}

// What all pixels splatted in `step` becomes what they slice in the next.
void Field::spread(Buffer& buffer, int step, int member) const {
    const int members = buffer.members;
    size_t axes = 0;
    buffer.barrier.wait();
    if (member == 0) buffer.ticket[step % 2] = 0;
    for (const Table& t : buffer.table) {
        axes = std::max(axes, t.filter->order.size());
        if (t.filter->gathers())
            t.gather(share_gathering(*t.filter, member, members), row_, buffer.rows.data(),
                     buffer.halves());
        else
            t.merge(share(t.filter->vertices, member, members), row_);
    }
    for (size_t axis = 0; axis < axes; ++axis) {
        buffer.barrier.wait();
        for (const Table& t : buffer.table)
            if (axis < t.filter->order.size()) t.blur(axis, row_, member, members);
    }
    buffer.barrier.wait();
    bool mixed = false;
    for (const Table& t : buffer.table) {
        const Compatibility& mu = t.term->compatibility;
        if (mu.kind == Compatibility::kPotts) continue;
        mix(mu, labels_, row_, share(t.filter->vertices, member, members), t.value.data());
        mixed = true;
    }
    if (mixed) buffer.barrier.wait();
}

void Field::infer(int steps, int threads, float* marginal) {
    require_energy();
    prepare(threads);
    Buffer buffer(*this, threads, true, false);
    run_team(threads, [&](int member) {
        PixelPass pass = this->pass(buffer, member);
        pass.logit = logit_.data();
        pass.self = buffer.self;
        pass.softmax = true;
        pass.marginal_in = pass.marginal_out = buffer.rows.empty() ? nullptr : buffer.rows.data();
        pass.splat = true;
        for (int s = 0; s < steps; ++s) {
            sweep(buffer, pass, s, member, nullptr);
            spread(buffer, s, member);
            pass.slice = true;
        }
        pass.splat = false;
        pass.half_out = nullptr;
        sweep(buffer, pass, steps, member, marginal);
    });
}

// Splats and spreads given marginals (labels, pixels); leaves `pass` ready for slicing, the marginals in
// its rows.
void Field::propagate(Buffer& buffer, const float* marginal, PixelPass& pass, int member) const {
    const Range tiles = portion(tiling_.count(), member, buffer.members);
    for (int64_t t = tiles.begin; t < tiles.end; ++t) {
        const Tile tile = tiling_.tile(t);
        float* row = buffer.rows.data() + tile.first * row_;
        for (int y = 0; y < tile.height; ++y)
            for (int x = 0; x < tile.width; ++x, row += row_) {
                const int64_t pixel = (tile.row + y) * tiling_.width + tile.column + x;
                for (int c = 0; c < labels_; ++c) row[c] = marginal[c * pixels() + pixel];
                for (int c = labels_; c < row_; ++c) row[c] = 0.0f;
            }
    }
    buffer.barrier.wait();
    pass.marginal_in = buffer.rows.data();
    pass.splat = true;
    sweep(buffer, pass, 0, member, nullptr);
    spread(buffer, 0, member);
    pass.half_out = nullptr;
    pass.logit = logit_.data();
    pass.slice = true;
    pass.splat = false;
}

void Field::step(const float* from, float* marginal, int threads) {
    require_energy();
    prepare(threads);
    Buffer buffer(*this, threads, true, true);
    run_team(threads, [&](int member) {
        PixelPass pass = this->pass(buffer, member);
        propagate(buffer, from, pass, member);
        pass.self = buffer.self;
        pass.softmax = true;
        sweep(buffer, pass, 1, member, marginal);
    });
}

double Field::divergence(const float* marginal, int threads) {
    require_energy();
    prepare(threads);
    Buffer buffer(*this, threads, false, true);
    Aligned message(buffer.rows.size(), false);
    run_team(threads, [&](int member) {
        PixelPass pass = this->pass(buffer, member);
        propagate(buffer, marginal, pass, member);
        pass.marginal_out = message.data();
        sweep(buffer, pass, 1, member, nullptr);
    });
    double result = 0;
    for (int64_t p = 0; p < pixels(); ++p)
        for (int c = 0; c < labels_; ++c) {
            const float q = buffer.rows[p * row_ + c];
            if (q == 0) continue;  // an impossible label of no weight adds nothing
            result += q * (std::log((double)std::max(q, 1e-20f)) - message[p * row_ + c]);
        }
    return result;
}

}  // namespace densecrf
