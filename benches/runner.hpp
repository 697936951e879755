// Runs transactions on threads for a while, and times them.
#ifndef KHONSU_BENCHES_RUNNER_HPP
#define KHONSU_BENCHES_RUNNER_HPP

#include <time.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <vector>

#include "workload.hpp"

namespace bench {

using Clock = std::chrono::steady_clock;

/// Of the calling thread. It stands still while others have the processor.
inline double processor_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

inline double nanoseconds(Clock::duration elapsed) {
  return std::chrono::duration<double, std::nano>(elapsed).count();
}

/// One thread's part of a run.
struct Job {
  Session *session;
  Feed *feed;
  const Workload *workload;
};

/// What it did. The counts include the warm-up.
struct alignas(128) Tally {
  // Commits per second, without the warm-up: by the clock on the wall, and by the processor time of the thread.
  double rate = 0;
  double processor_rate = 0;
  std::uint64_t commits = 0;
  std::uint64_t aborts = 0;
};

std::vector<Tally> run_jobs(const std::vector<Job> &jobs, double seconds);

/// Nanoseconds of processor time of one of the `calls` that `body` makes, timed over `seconds`.
template <typename Calls>
double time_calls(double seconds, std::size_t calls, Calls body) {
  const auto limit = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  body();
  const Clock::time_point start = Clock::now();
  const double before = processor_seconds();
  std::size_t turns = 0;
  do {
    body();
    ++turns;
  } while (Clock::now() - start < limit);
  return (processor_seconds() - before) * 1e9 / static_cast<double>(turns * calls);
}

/// Of some times; what others took of the processor falls on few of them.
inline double median_of(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

/// Runs `measure` in a process of its own, where no freed memory of others hides growth, and gives what it gave.
std::vector<double> in_child(const std::function<std::vector<double>()> &measure);

}  // namespace bench

#endif
