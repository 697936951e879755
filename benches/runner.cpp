#include "runner.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

namespace bench {
namespace {

constexpr double kWarmUp = 0.2;  // of the measured time

}  // namespace

std::vector<Tally> run_jobs(const std::vector<Job> &jobs, double seconds) {
  enum : int { kWarming, kMeasuring, kStopped };
  std::vector<Tally> tallies(jobs.size());
  std::atomic<int> phase{kWarming};
  std::atomic<unsigned> started{0};
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    threads.emplace_back([&, i] {
      const Job job = jobs[i];
      Tally tally;
      const auto run_while = [&](int wanted) {
        std::uint64_t commits = 0;
        do {  // once at least: on a busy machine a thread may sleep through a short phase
          for (int turn = 0; turn < 4; ++turn) tally.aborts += run_transaction(*job.session, *job.feed, *job.workload);
          commits += 4;
        } while (phase.load(std::memory_order_relaxed) == wanted);
        tally.commits += commits;
        return commits;
      };
      started.fetch_add(1);
      run_while(kWarming);
      const Clock::time_point start = Clock::now();
      const double processor_start = processor_seconds();
      const auto measured = static_cast<double>(run_while(kMeasuring));
      const std::chrono::duration<double> elapsed = Clock::now() - start;
      tally.rate = measured / elapsed.count();
      tally.processor_rate = measured / (processor_seconds() - processor_start);
      tallies[i] = tally;
    });
  }
  while (started.load() != jobs.size()) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds * kWarmUp));
  phase.store(kMeasuring);
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  phase.store(kStopped);
  for (std::thread &thread : threads) thread.join();
  return tallies;
}

std::vector<double> in_child(const std::function<std::vector<double>()> &measure) {
  int ends[2];
  if (pipe(ends) != 0) fail("pipe failed");
  std::fflush(nullptr);
  const pid_t pid = fork();
  if (pid < 0) fail("fork failed");
  if (pid == 0) {
    close(ends[0]);
    const std::vector<double> values = measure();
    const std::size_t bytes = values.size() * sizeof(double);  // few enough for a pipe to take at once
    _exit(write(ends[1], values.data(), bytes) == static_cast<ssize_t>(bytes) ? 0 : 1);
  }
  close(ends[1]);
  std::vector<double> values;
  for (double value = 0; read(ends[0], &value, sizeof(value)) == static_cast<ssize_t>(sizeof(value));) {
    values.push_back(value);
  }
  close(ends[0]);
  int status = 0;
  waitpid(pid, &status, 0);
  if (status != 0) fail("a process that measures in its own memory failed");
  return values;
}

}  // namespace bench
