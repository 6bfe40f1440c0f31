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
        return v;
    }

    // What the segments splatted to vertices in `range`; their tables are cleared for the next step.
    void merge(Range range, int row) const {
        // Between two cuts the same segments reach all vertices.
        std::vector<int64_t> cut{range.begin, range.end};
        for (const Range& reach : filter->reach)
            for (int64_t v : {reach.begin, reach.end})
                if (v > range.begin && v < range.end) cut.push_back(v);
        std::sort(cut.begin(), cut.end());
        std::vector<float*> source;
        for (size_t i = 0; i + 1 < cut.size(); ++i) {
            if (cut[i] == cut[i + 1]) continue;
            source.clear();
            for (size_t s = 0; s < part.size(); ++s) {
                const Range& reach = filter->reach[s];
                if (reach.begin <= cut[i] && cut[i + 1] <= reach.end)
                    source.push_back(part[s].data() + (cut[i] - reach.begin) * row);
            }
            passes().merge(value.data() + cut[i] * row, source.data(), (int)source.size(),
                           (cut[i + 1] - cut[i]) * row);
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

}  // namespace

// What one inference works on.
struct Field::Buffer {
    std::vector<Table> table;
    std::vector<Aligned> scratch;  // [member] stage of a pass and room beside it
    Aligned rows, half;            // marginals (pixels, row), where they must be kept
    float self = 0;
    int members;
    Barrier barrier;
    std::atomic<int> ticket[2] = {{0}, {0}};  // next segment of even and of odd steps

    Buffer(const Field& field, int threads, bool shortcut, bool keep)
        : members(threads), barrier(threads) {
        bool halve = false;
        const int row = field.row_;
        for (const Term& t : field.term_) {
            if (shortcut && is_self(t)) {
                self += t.compatibility.weight;
                continue;
            }
            table.emplace_back(t, row, field.half_);
            keep |= t.filter->gathers() && !table.back().half;
            halve |= table.back().half;
        }
        if (keep || self != 0) rows = Aligned((size_t)field.pixels() * row, false);
        if (halve) half = Aligned((size_t)field.pixels() * row / 2, false);
        for (int m = 0; m < members; ++m)
            scratch.emplace_back((size_t)(kTilePixels + kVector) * row);
    }

    Half* halves() const { return half.empty() ? nullptr : reinterpret_cast<Half*>(half.data()); }
};

Field::Field(const Tiling& tiling, int labels, bool half)
    : tiling_(tiling), labels_(labels), row_(passes().row(labels)), narrow_(passes().narrow(labels)),
      half_(half) {}

void Field::add(Term term) {
    term_.push_back(std::move(term));
}

void Field::set_energy(const float* energy, int threads) {
    logit_ = Aligned((size_t)pixels() * narrow_, false);
    std::vector<Flaw> flaw(threads, kFine);
    run_team(threads, [&](int member) {
        const Range tiles = portion(tiling_.count(), member, threads);
        for (int64_t t = tiles.begin; t < tiles.end; ++t) {
            const Tile tile = tiling_.tile(t);
            flaw[member] = std::max(
                flaw[member], passes().logits(energy + tile.row * tiling_.width + tile.column,
                                              window(tiling_, tile), labels_,
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

PixelPass Field::pass(const Buffer& buffer, int member) const {
    PixelPass pass{};
    pass.row = row_;
    pass.narrow = narrow_;
    pass.stage = buffer.scratch[member].data();
    pass.kept = pass.stage + kTilePixels * row_;
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
                const Filter& f = *buffer.table[k].filter;
                view[k] = first[k];
                view[k].run = &f.run[f.tile_run[t]];
                view[k].runs = (int)(f.tile_run[t + 1] - f.tile_run[t]);
                view[k].place = &f.place[tile.first];
                view[k].in_weight = &f.in_weight[tile.first * f.corners];
                view[k].out_weight = &f.slicing()[tile.first * f.corners];
            }
            PixelPass pass = all;
            pass.n = tile.pixels();
            pass.term = view.data();
            pass.terms = tables;
            if (all.logit) pass.logit += tile.first * narrow_;
            if (all.marginal_in) pass.marginal_in += at;
            if (all.marginal_out) pass.marginal_out += at;
            if (all.half_out) pass.half_out += at;
            passes().pixel(pass);
            if (plane)
                passes().planes(pass.stage, row_, labels_, window(tiling_, tile),
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
        pass.marginal_out = nullptr;
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
