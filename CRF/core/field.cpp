#include "field.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <stdexcept>

#include "team.h"

namespace densecrf {
namespace {

// Like share, for chains of Passes::blur: no chain is cut.
Range share_chains(const Array<int32_t>& order, int member, int members) {
    auto cut = [&](int64_t at) {
        while (at > 0 && at < (int64_t)order.size() && order[at - 1] >= 0) ++at;
        return at;
    };
    const int64_t size = (int64_t)order.size();
    return {cut(size * member / members), cut(size * (member + 1) / members)};
}

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

    Table(const Term& t, int row) : term(&t), filter(t.filter.get()) {
        half = filter->half && passes().gather_half && t.compatibility.kind == Compatibility::kPotts;
        value = Aligned((size_t)filter->vertices * row / (half ? 2 : 1), false);
        for (const Range& reach : filter->reach)
            part.emplace_back((size_t)(std::max<int64_t>(reach.end - reach.begin, 0) * row));
    }
    Half* halves() const { return reinterpret_cast<Half*>(value.data()); }

    TermView view(int segment, int row) const {
        const Compatibility& mu = term->compatibility;
        TermView v;
        v.corners = filter->corners;
        v.simplex = filter->simplex.data();
        v.corner = filter->corner.data();
        v.in_weight = filter->in_weight.data();
        v.out_weight = filter->slicing();
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

}  // namespace

// What one inference works on.
struct Field::Buffer {
    std::vector<Table> table;
    std::vector<std::vector<TermView>> view;  // [member][table]
    std::vector<Aligned> scratch;             // [member]
    Aligned rows, half;                       // marginals (pixels, row), where they must be kept
    float self = 0;
    int members;
    Barrier barrier;
    std::atomic<int> ticket[2] = {{0}, {0}};  // next segment of even and of odd steps

    Buffer(const std::vector<Term>& terms, int64_t pixels, int row, int threads, bool shortcut)
        : view(threads), members(threads), barrier(threads) {
        bool keep = false, halve = false;
        for (const Term& t : terms) {
            if (shortcut && is_self(t)) self += t.compatibility.weight;
            else table.emplace_back(t, row);
        }
        for (const Table& t : table) {
            keep |= t.filter->gathers() && !t.half;
            halve |= t.half;
        }
        if (keep || self != 0) rows = Aligned((size_t)pixels * row, false);
        if (halve) half = Aligned((size_t)pixels * row / 2, false);
        for (int m = 0; m < members; ++m) scratch.emplace_back((size_t)kStage * row);
    }

    Half* halves() const { return half.empty() ? nullptr : reinterpret_cast<Half*>(half.data()); }
};

Field::Field(int64_t pixels, int labels)
    : pixels_(pixels), labels_(labels), row_(passes().row(labels)) {}

void Field::add(Term term) { term_.push_back(std::move(term)); }

void Field::set_energy(const float* energy, int threads) {
    logit_ = Aligned((size_t)pixels_ * row_, false);
    std::vector<Flaw> flaw(threads, kFine);
    run_team(threads, [&](int member) {
        const Range range = share(pixels_, member, threads);
        flaw[member] = passes().logits(energy, pixels_, labels_, row_, range.begin, range.end,
                                       logit_.data());
    });
    for (Flaw f : flaw) {
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
    pass.labels = labels_;
    pass.row = row_;
    pass.scratch = buffer.scratch[member].data();
    pass.plane = pixels_;
    pass.half_out = buffer.halves();
    return pass;
}

// The pass over all pixels: members take segments until none is left.
void Field::sweep(Buffer& buffer, PixelPass& pass, int step, int member) const {
    const int count = segments(pixels_);
    auto& view = buffer.view[member];
    auto& ticket = buffer.ticket[step % 2];
    for (int s = ticket++; s < count; s = ticket++) {
        view.clear();
        for (const Table& t : buffer.table) view.push_back(t.view(s, row_));
        pass.term = view.data();
        pass.terms = (int)view.size();
        const Range range = share(pixels_, s, count);
        pass.begin = range.begin;
        pass.end = range.end;
        passes().pixel(pass);
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
    Buffer buffer(term_, pixels_, row_, threads, true);
    run_team(threads, [&](int member) {
        PixelPass pass = this->pass(buffer, member);
        pass.logit = logit_.data();
        pass.self = buffer.self;
        pass.softmax = true;
        pass.marginal_in = pass.marginal_out = buffer.rows.empty() ? nullptr : buffer.rows.data();
        pass.splat = true;
        for (int s = 0; s < steps; ++s) {
            sweep(buffer, pass, s, member);
            spread(buffer, s, member);
            pass.slice = true;
        }
        pass.splat = false;
        pass.marginal_out = nullptr;
        pass.half_out = nullptr;
        pass.plane_out = marginal;
        sweep(buffer, pass, steps, member);
    });
}

void Field::load(const float* marginal, float* rows, Range range) const {
    for (int64_t p = range.begin; p < range.end; ++p) {
        for (int c = 0; c < labels_; ++c) rows[p * row_ + c] = marginal[c * pixels_ + p];
        for (int c = labels_; c < row_; ++c) rows[p * row_ + c] = 0.0f;
    }
}

// Splats and spreads given marginals; leaves `pass` ready for slicing, the marginals in its rows.
void Field::propagate(Buffer& buffer, const float* marginal, PixelPass& pass, int member) const {
    load(marginal, buffer.rows.data(), share(pixels_, member, buffer.members));
    buffer.barrier.wait();
    pass.marginal_in = buffer.rows.data();
    pass.splat = true;
    sweep(buffer, pass, 0, member);
    spread(buffer, 0, member);
    pass.half_out = nullptr;
    pass.logit = logit_.data();
    pass.slice = true;
    pass.splat = false;
}

void Field::step(const float* from, float* marginal, int threads) {
    require_energy();
    Buffer buffer(term_, pixels_, row_, threads, true);
    buffer.rows = Aligned(logit_.size(), false);
    run_team(threads, [&](int member) {
        PixelPass pass = this->pass(buffer, member);
        propagate(buffer, from, pass, member);
        pass.self = buffer.self;
        pass.softmax = true;
        pass.plane_out = marginal;
        sweep(buffer, pass, 1, member);
    });
}

double Field::divergence(const float* marginal, int threads) {
    require_energy();
    Buffer buffer(term_, pixels_, row_, threads, false);
    buffer.rows = Aligned(logit_.size(), false);
    Aligned message(logit_.size(), false);
    run_team(threads, [&](int member) {
        PixelPass pass = this->pass(buffer, member);
        propagate(buffer, marginal, pass, member);
        pass.marginal_out = message.data();
        sweep(buffer, pass, 1, member);
    });
    double result = 0;
    for (int64_t p = 0; p < pixels_; ++p)
        for (int c = 0; c < labels_; ++c) {
            const float q = buffer.rows[p * row_ + c];
            if (q == 0) continue;  // an impossible label of no weight adds nothing
            result += q * (std::log((double)std::max(q, 1e-20f)) - message[p * row_ + c]);
        }
    return result;
}

}  // namespace densecrf
