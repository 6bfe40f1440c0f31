#include "field.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "team.h"

namespace densecrf {
namespace {

void share(int64_t count, int member, int members, int64_t* begin, int64_t* end) {
    const int64_t blocks = (count + kBlock - 1) / kBlock;
    *begin = blocks * member / members * kBlock;
    *end = std::min(count, blocks * (member + 1) / members * kBlock);
}

// Like share, for chains of Passes::blur: no chain is cut.
void share_chains(const Array<int32_t>& order, int member, int members, int64_t* begin, int64_t* end) {
    auto cut = [&](int64_t at) {
        while (at > 0 && at < (int64_t)order.size() && order[at - 1] >= 0) ++at;
        return at;
    };
    *begin = cut((int64_t)order.size() * member / members);
    *end = cut((int64_t)order.size() * (member + 1) / members);
}

// Floats that the second-level cache holds; rows of larger tables are asked for ahead of time.
constexpr size_t kCached = 1 << 17;

bool is_self(const Term& term) {
    return term.filter->identity && term.compatibility.kind == Compatibility::kPotts;
}

}  // namespace

// The tables of one inference: per term the blurred values and one sum per thread.
struct Field::Buffer {
    std::vector<const Term*> term;
    std::vector<Aligned> value;             // [term]
    std::vector<std::vector<Aligned>> sum;  // [term][member]
    std::vector<Aligned> scratch;           // [member]
    float self = 0;
    Barrier barrier;

    Buffer(const std::vector<Term>& terms, int row, int members, bool shortcut) : barrier(members) {
        for (int m = 0; m < members; ++m) scratch.emplace_back(row);
        for (const Term& t : terms) {
            if (shortcut && is_self(t)) {
                self += t.compatibility.weight;
                continue;
            }
            const size_t size = (size_t)t.filter->vertices * row;
            term.push_back(&t);
            value.emplace_back(size);
            sum.emplace_back();
            for (int m = 0; m < members; ++m) sum.back().emplace_back(size);
        }
    }

    std::vector<TermView> views(int member) {
        std::vector<TermView> view;
        for (size_t k = 0; k < term.size(); ++k) {
            const Filter& f = *term[k]->filter;
            view.push_back({f.corners, f.simplex.data(), f.corner.data(), f.in_weight.data(),
                            f.slicing(), value[k].data(), sum[k][member].data(),
                            value[k].size() > kCached});
        }
        return view;
    }
};

Field::Field(int64_t pixels, int labels)
    : pixels_(pixels), labels_(labels), row_(passes().row(labels)) {}

void Field::add(Term term) { term_.push_back(std::move(term)); }

void Field::set_energy(const float* energy, int threads) {
    logit_ = Aligned((size_t)pixels_ * row_, false);
    std::vector<Flaw> flaw(threads, kFine);
    run_team(threads, [&](int member) {
        int64_t begin, end;
        share(pixels_, member, threads, &begin, &end);
        flaw[member] = passes().logits(energy, pixels_, labels_, row_, begin, end, logit_.data());
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

void Field::blur(Buffer& buffer, int member, int members) const {
    for (size_t k = 0; k < buffer.term.size(); ++k) {
        int64_t begin, end;
        share((int64_t)buffer.value[k].size(), member, members, &begin, &end);
        std::vector<float*> table;
        for (auto& sum : buffer.sum[k]) table.push_back(sum.data());
        const Compatibility& mu = buffer.term[k]->compatibility;
        const float gain = buffer.term[k]->filter->gain;
        const float scale = mu.kind == Compatibility::kPotts ? mu.weight * gain : -gain;
        passes().merge(buffer.value[k].data(), table.data(), members, scale, begin, end);
    }
    for (size_t k = 0; k < buffer.term.size(); ++k) {
        const Filter& filter = *buffer.term[k]->filter;
        for (const auto& order : filter.order) {
            buffer.barrier.wait();
            int64_t begin, end;
            share_chains(order, member, members, &begin, &end);
            passes().blur(buffer.value[k].data(), row_, order.data(), begin, end);
        }
    }
    // Compatibility is linear, so that it may act on vertices, which are fewer than pixels.
    for (size_t k = 0; k < buffer.term.size(); ++k) {
        const Compatibility& mu = buffer.term[k]->compatibility;
        if (mu.kind == Compatibility::kPotts) continue;
        buffer.barrier.wait();
        const int64_t vertices = buffer.term[k]->filter->vertices;
        int64_t begin, end;
        share(vertices, member, members, &begin, &end);
        std::vector<float> mixed(labels_);
        for (int64_t v = begin; v < end; ++v) {
            float* at = buffer.value[k].data() + v * row_;
            for (int a = 0; a < labels_; ++a) {
                if (mu.kind == Compatibility::kDiagonal) {
                    mixed[a] = mu.entry[a] * at[a];
                } else {
                    float sum = 0;
                    for (int b = 0; b < labels_; ++b) sum += mu.entry[(size_t)a * labels_ + b] * at[b];
                    mixed[a] = sum;
                }
            }
            std::copy(mixed.begin(), mixed.end(), at);
        }
    }
    buffer.barrier.wait();
}

void Field::infer(int steps, int threads, float* marginal) {
    if (logit_.empty()) throw std::invalid_argument("no unary energy was set");
    Buffer buffer(term_, row_, threads, true);
    Aligned rows(buffer.self != 0 ? logit_.size() : 0, false);
    std::vector<std::vector<TermView>> views;
    for (int member = 0; member < threads; ++member) views.push_back(buffer.views(member));
    run_team(threads, [&](int member) {
        PixelPass pass{};
        pass.scratch = buffer.scratch[member].data();
        share(pixels_, member, threads, &pass.begin, &pass.end);
        pass.labels = labels_;
        pass.row = row_;
        pass.term = views[member].data();
        pass.terms = (int)views[member].size();
        pass.logit = logit_.data();
        pass.marginal_in = pass.marginal_out = rows.empty() ? nullptr : rows.data();
        pass.self = buffer.self;
        pass.softmax = true;
        pass.plane = pixels_;
        for (int s = 0; s <= steps; ++s) {
            pass.slice = s > 0;
            pass.splat = s < steps;
            pass.plane_out = s == steps ? marginal : nullptr;
            passes().pixel(pass);
            if (s == steps) break;
            buffer.barrier.wait();
            blur(buffer, member, threads);
        }
    });
}

void Field::load(const float* marginal, float* rows, int64_t begin, int64_t end) const {
    for (int64_t p = begin; p < end; ++p) {
        for (int c = 0; c < labels_; ++c) rows[p * row_ + c] = marginal[c * pixels_ + p];
        for (int c = labels_; c < row_; ++c) rows[p * row_ + c] = 0.0f;
    }
}

void Field::step(const float* from, float* marginal, int threads) {
    if (logit_.empty()) throw std::invalid_argument("no unary energy was set");
    Buffer buffer(term_, row_, threads, true);
    Aligned rows(logit_.size(), false);
    std::vector<std::vector<TermView>> views;
    for (int member = 0; member < threads; ++member) views.push_back(buffer.views(member));
    run_team(threads, [&](int member) {
        PixelPass pass{};
        pass.scratch = buffer.scratch[member].data();
        share(pixels_, member, threads, &pass.begin, &pass.end);
        load(from, rows.data(), pass.begin, pass.end);
        pass.labels = labels_;
        pass.row = row_;
        pass.term = views[member].data();
        pass.terms = (int)views[member].size();
        pass.marginal_in = rows.data();
        pass.splat = true;
        passes().pixel(pass);
        buffer.barrier.wait();
        blur(buffer, member, threads);
        pass.logit = logit_.data();
        pass.self = buffer.self;
        pass.slice = pass.softmax = true;
        pass.splat = false;
        pass.plane_out = marginal;
        pass.plane = pixels_;
        passes().pixel(pass);
    });
}

double Field::divergence(const float* marginal, int threads) {
    if (logit_.empty()) throw std::invalid_argument("no unary energy was set");
    Buffer buffer(term_, row_, threads, false);
    Aligned rows(logit_.size(), false), message(logit_.size(), false);
    std::vector<double> sum(threads, 0.0);
    std::vector<std::vector<TermView>> views;
    for (int member = 0; member < threads; ++member) views.push_back(buffer.views(member));
    run_team(threads, [&](int member) {
        PixelPass pass{};
        pass.scratch = buffer.scratch[member].data();
        share(pixels_, member, threads, &pass.begin, &pass.end);
        load(marginal, rows.data(), pass.begin, pass.end);
        pass.labels = labels_;
        pass.row = row_;
        pass.term = views[member].data();
        pass.terms = (int)views[member].size();
        pass.marginal_in = rows.data();
        pass.splat = true;
        passes().pixel(pass);
        buffer.barrier.wait();
        blur(buffer, member, threads);
        pass.logit = logit_.data();
        pass.slice = true;
        pass.splat = false;
        pass.marginal_in = nullptr;
        pass.marginal_out = message.data();
        passes().pixel(pass);
        for (int64_t p = pass.begin; p < pass.end; ++p)
            for (int c = 0; c < labels_; ++c) {
                const float q = rows[p * row_ + c];
                if (q == 0) continue;  // an impossible label of no weight adds nothing
                sum[member] += q * (std::log((double)std::max(q, 1e-20f)) - message[p * row_ + c]);
            }
    });
    double result = 0;
    for (double s : sum) result += s;
    return result;
}

}  // namespace densecrf
