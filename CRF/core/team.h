// A few threads that live for one call, and a barrier between their steps.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace densecrf {

// Marginals fall below 1e-38 all the time, and denormal numbers cost a hundred cycles each: while
// this object lives, its thread takes them for zero.
class FlushDenormals {
public:
#if defined(__x86_64__) || defined(_M_X64)
    FlushDenormals() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040); }
    ~FlushDenormals() { _mm_setcsr(saved_); }

private:
    unsigned saved_;
#elif defined(__aarch64__) && (defined(__GNUC__) || defined(__clang__))
    FlushDenormals() {
        asm volatile("mrs %0, fpcr" : "=r"(saved_));
        asm volatile("msr fpcr, %0" ::"r"(saved_ | (1ull << 24)));
    }
    ~FlushDenormals() { asm volatile("msr fpcr, %0" ::"r"(saved_)); }

private:
    unsigned long long saved_;
#endif
public:
    FlushDenormals(const FlushDenormals&) = delete;
};

// Spins for some microseconds, then sleeps: on a busy machine the others need the processor to come.
class Barrier {
public:
    explicit Barrier(int members) : members_(members) {}

    void wait() {
        if (members_ == 1) return;
        const unsigned round = round_.load(std::memory_order_acquire);
        if (waiting_.fetch_add(1, std::memory_order_acq_rel) + 1 == members_) {
            waiting_.store(0, std::memory_order_relaxed);
            {
                std::lock_guard<std::mutex> lock(mutex_);
                round_.store(round + 1, std::memory_order_release);
            }
            changed_.notify_all();
            return;
        }
        for (int spin = 0; spin < 4000; ++spin) {
            if (round_.load(std::memory_order_acquire) != round) return;
            pause();
        }
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [&] { return round_.load(std::memory_order_acquire) != round; });
    }

private:
    static void pause() {
#if defined(__x86_64__) || defined(_M_X64)
        _mm_pause();
#endif
    }
    const int members_;
    std::atomic<int> waiting_{0};
    std::atomic<unsigned> round_{0};
    std::mutex mutex_;
    std::condition_variable changed_;
};

struct Range {
    int64_t begin, end;
};

// The part of `count` things that is `member`'s.
inline Range portion(int64_t count, int member, int members) {
    return {count * member / members, count * (member + 1) / members};
}

// The same, cut at multiples of 64, so that no two members write
// to one cache line or one block of pixels.
inline Range share(int64_t count, int member, int members) {
    const int64_t blocks = (count + 63) / 64;
    return {blocks * member / members * 64, std::min(count, blocks * (member + 1) / members * 64)};
}

// Runs job(member) for member = 0 .. members - 1, the first in this thread. An exception of any
// member is thrown here; jobs that meet at a barrier must not throw.
template <typename Job>
void run_team(int members, Job job) {
    std::vector<std::exception_ptr> failure(members);
    auto guarded = [&](int member) {
        try {
            FlushDenormals flush;
            job(member);
        } catch (...) {
            failure[member] = std::current_exception();
        }
    };
    // The members start only when all of them exist: a job with a barrier would wait for ever for
    // a thread that the system refused.
    std::atomic<int> signal{0};
    std::vector<std::thread> crew;
    crew.reserve(members);
    try {
        for (int member = 1; member < members; ++member)
            crew.emplace_back([&, member] {
                while (signal.load(std::memory_order_acquire) == 0) std::this_thread::yield();
                if (signal.load(std::memory_order_acquire) > 0) guarded(member);
            });
    } catch (...) {
        signal.store(-1, std::memory_order_release);
        for (auto& thread : crew) thread.join();
        throw;
    }
    signal.store(1, std::memory_order_release);
    guarded(0);
    for (auto& thread : crew) thread.join();
    for (auto& error : failure)
        if (error) std::rethrow_exception(error);
}

}  // namespace densecrf
