#include "field.h"

#include <algorithm>
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

// The tables of one term. A small table is splatted to, one copy per member: what step s splats to,
// step s + 1 reads, so that two take turns. The vertices of a large one gather from the marginals of
// all pixels: its rows are written once, in order.
struct Table {
    const Term* term;
    const Filter* filter;
    bool half;
    size_t size;
    Aligned turn[2];
    std::vector<Aligned> part;  // sums of members 1, 2, ...

    Table(const Term& t, int row, int members)
        : term(&t), filter(t.filter.get()), size((size_t)filter->vertices * row) {
        half = filter->gathers() && filter->half && passes().gather_half && !getenv("NOHALF") &&
               t.compatibility.kind == Compatibility::kPotts;
        turn[0] = Aligned(half ? size / 2 : size, !filter->gathers());
        if (filter->gathers()) return;
        turn[1] = Aligned(size, false);
        for (int m = 1; m < members; ++m) part.emplace_back(size);
    }
    float* sum(int step) const { return turn[filter->gathers() ? 0 : step % 2].data(); }
    float* value(int step) const { return turn[filter->gathers() ? 0 : (step + 1) % 2].data(); }

    Half* halves() const { return reinterpret_cast<Half*>(turn[0].data()); }

    TermView view(int step, int member) const {
        const Compatibility& mu = term->compatibility;
        TermView v;
        v.corners = filter->corners;
        v.simplex = filter->simplex.data();
        v.corner = filter->corner.data();
        v.in_weight = filter->in_weight.data();
        v.out_weight = filter->slicing();
        v.value = half ? nullptr : value(step);
        v.half_value = half ? halves() : nullptr;
        v.sum = filter->gathers() ? nullptr : member == 0 ? sum(step) : part[member - 1].data();
        v.scale = mu.kind == Compatibility::kPotts ? mu.weight * filter->gain : -filter->gain;
        v.ahead = filter->gathers();
        return v;
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

    Buffer(const std::vector<Term>& terms, int64_t pixels, int row, int threads, bool shortcut)
        : view(threads), members(threads), barrier(threads) {
        bool keep = false, halve = false;
        for (const Term& t : terms) {
            if (shortcut && is_self(t)) self += t.compatibility.weight;
            else table.emplace_back(t, row, members);
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

    void turn(int step, int member, PixelPass& pass) {
        view[member].clear();
        for (const Table& t : table) view[member].push_back(t.view(step, member));
        pass.term = view[member].data();
        pass.terms = (int)view[member].size();
    }
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

PixelPass Field::pass(Buffer& buffer, int member) const {
    PixelPass pass{};
    const Range range = share(pixels_, member, buffer.members);
    pass.begin = range.begin;
    pass.end = range.end;
    pass.labels = labels_;
    pass.row = row_;
    pass.scratch = buffer.scratch[member].data();
    pass.plane = pixels_;
    pass.half_out = buffer.halves();
    buffer.turn(0, member, pass);
    return pass;
}

// What all pixels splatted in `step` becomes what they slice in the next.
void Field::spread(Buffer& buffer, int step, int member) const {
    const int members = buffer.members;
    size_t axes = 0;
    buffer.barrier.wait();
    for (const Table& t : buffer.table) {
        axes = std::max(axes, t.filter->order.size());
        if (t.filter->gathers()) {
            const Filter& f = *t.filter;
            const Range range = share_gathering(f, member, members);
            if (t.half)
                passes().gather_half({range.begin, range.end, row_, f.start.data(), f.share.data(),
                                      buffer.halves(), t.halves()});
            else
                passes().gather({range.begin, range.end, row_, f.start.data(), f.share.data(),
                                 buffer.rows.data(), t.sum(step)});
            continue;
        }
        const Range range = share((int64_t)t.size, member, members);
        for (const Aligned& part : t.part)
            passes().merge(t.sum(step), part.data(), range.begin, range.end);
        std::fill(t.value(step) + range.begin, t.value(step) + range.end, 0.0f);
    }
    for (size_t axis = 0; axis < axes; ++axis) {
        buffer.barrier.wait();
        for (const Table& t : buffer.table) {
            if (axis >= t.filter->order.size()) continue;
            const auto& order = t.filter->order[axis];
            const Range range = share_chains(order, member, members);
            if (t.half)
                passes().blur_half(t.halves(), row_, order.data(), range.begin, range.end);
            else
                passes().blur(t.sum(step), row_, order.data(), range.begin, range.end);
        }
    }
    buffer.barrier.wait();
    bool mixed = false;
    for (const Table& t : buffer.table) {
        const Compatibility& mu = t.term->compatibility;
        if (mu.kind == Compatibility::kPotts) continue;
        mix(mu, labels_, row_, share(t.filter->vertices, member, members), t.sum(step));
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
        for (int s = 0; s < steps; ++s) {
            pass.slice = s > 0;
            pass.splat = true;
            passes().pixel(pass);
            spread(buffer, s, member);
            buffer.turn(s + 1, member, pass);
        }
        pass.slice = steps > 0;
        pass.splat = false;
        pass.marginal_out = nullptr;
        pass.half_out = nullptr;
        pass.plane_out = marginal;
        passes().pixel(pass);
    });
}

// Splats and spreads given marginals; leaves `pass` ready for slicing, the marginals in its rows.
void Field::propagate(Buffer& buffer, const float* marginal, PixelPass& pass, int member) const {
    float* rows = buffer.rows.data();
    for (int64_t p = pass.begin; p < pass.end; ++p) {
        for (int c = 0; c < labels_; ++c) rows[p * row_ + c] = marginal[c * pixels_ + p];
        for (int c = labels_; c < row_; ++c) rows[p * row_ + c] = 0.0f;
    }
    pass.marginal_in = rows;
    pass.splat = true;
    passes().pixel(pass);
    spread(buffer, 0, member);
    buffer.turn(1, member, pass);
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
        passes().pixel(pass);
    });
}

double Field::divergence(const float* marginal, int threads) {
    require_energy();
    Buffer buffer(term_, pixels_, row_, threads, false);
    buffer.rows = Aligned(logit_.size(), false);
    Aligned message(logit_.size(), false);
    std::vector<double> sum(threads, 0.0);
    run_team(threads, [&](int member) {
        PixelPass pass = this->pass(buffer, member);
        propagate(buffer, marginal, pass, member);
        pass.marginal_out = message.data();
        passes().pixel(pass);
        for (int64_t p = pass.begin; p < pass.end; ++p)
            for (int c = 0; c < labels_; ++c) {
                const float q = buffer.rows[p * row_ + c];
                if (q == 0) continue;  // an impossible label of no weight adds nothing
                sum[member] += q * (std::log((double)std::max(q, 1e-20f)) - message[p * row_ + c]);
            }
    });
    double result = 0;
    for (double s : sum) result += s;
    return result;
}

}  // namespace densecrf
