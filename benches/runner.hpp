// Runs transactions on threads for a while, and times them.
#ifndef KHONSU_BENCHES_RUNNER_HPP
#define KHONSU_BENCHES_RUNNER_HPP

#include <chrono>
#include <functional>
#include <vector>

#include "workload.hpp"

namespace bench {

using Clock = std::chrono::steady_clock;

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
  double rate = 0;  // commits per second, without the warm-up
  std::uint64_t commits = 0;
  std::uint64_t aborts = 0;
};

std::vector<Tally> run_jobs(const std::vector<Job> &jobs, double seconds);


/// Nanoseconds of one of the `calls` that `body` makes, timed over `seconds`.
template <typename Calls>
double time_calls(double seconds, std::size_t calls, Calls body) {
  const auto limit = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  body();
  const Clock::time_point start = Clock::now();
  Clock::duration elapsed{};
  std::size_t turns = 0;
  do {
    body();
    ++turns;
    elapsed = Clock::now() - start;
  } while (elapsed < limit);
  return nanoseconds(elapsed) / static_cast<double>(turns * calls);
}

/// Runs `measure` in a process of its own, where no freed memory of others hides growth, and gives what it gave.
std::vector<double> in_child(const std::function<std::vector<double>()> &measure);

}  // namespace bench

#endif
