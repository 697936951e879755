// The workloads, by turns: a round is one short run of each workload by each peer, so that what else the machine does
// falls on all of them.
#include <algorithm>
#include <atomic>
#include <filesystem>
#include <map>
#include <optional>
#include <random>
#include <thread>

#include "runner.hpp"
#include "sections.hpp"

namespace bench {
namespace {

constexpr unsigned kMostThreads = 16;  // but for workloads whose scaling is shown

const Workload &workload_named(const std::string &name) {
  const auto is = [&name](const Workload &workload) { return workload.name == name; };
  const auto *found = std::find_if(std::begin(kWorkloads), std::end(kWorkloads), is);
  if (found == std::end(kWorkloads)) fail("no workload is called " + name);
  return *found;
}

/// One thread is rated by its processor time, so that a busy machine takes less part in it; several, which wait for
/// each other, by the clock, and so is one thread where several are compared with it.
double total_rate(const Workload &workload, const std::vector<Tally> &tallies) {
  if (tallies.size() == 1 && !workload.scaling) return tallies[0].processor_rate;
  double rate = 0;
  for (const Tally &tally : tallies) rate += tally.rate;
  return rate;
}

double aborts_per_commit(const std::vector<Tally> &tallies) {
  std::uint64_t commits = 0;
  std::uint64_t aborts = 0;
  for (const Tally &tally : tallies) {
    commits += tally.commits;
    aborts += tally.aborts;
  }
  return static_cast<double>(aborts) / static_cast<double>(commits);
}

/// A peer that is loaded, with a session for each thread.
struct Contender {
  const Maker &maker;
  std::unique_ptr<Peer> peer;
  std::vector<std::unique_ptr<Session>> sessions;
  /// What the counters must sum to; nothing while blind puts may have set some back.
  std::optional<std::int64_t> sum;

  std::int64_t sum_counters() const {
    std::int64_t sum = 0;
    for (std::uint64_t first = 0; first < kKeys; first += kLoadTogether) {
      sum += sessions[0]->sum_counters(first, kLoadTogether);
    }
    return sum;
  }

  /// The rate of an engine that loses updates would be worth nothing.
  void check_sum() const {
    if (!maker.transactional || !sum.has_value()) return;
    const std::int64_t found = sum_counters();
    if (found != *sum) {
      fail(maker.name + " lost updates: the counters sum to " + std::to_string(found) + " instead of " +
           std::to_string(*sum));
    }
  }
};

class Matrix {
 public:
  Matrix(const Options &options, const std::vector<Maker> &makers, const std::string &directory, Samples &samples)
      : options_(options), samples_(samples), cores_(std::max(2U, std::thread::hardware_concurrency())) {
    for (unsigned threads = 1; threads < cores_; threads *= 2) thread_counts_.push_back(threads);
    thread_counts_.push_back(cores_);
    for (const Maker &maker : makers) {
      const std::string place = directory + "/" + maker.name;
      std::filesystem::create_directories(place);
      Contender contender{maker, maker.make(place), {}, std::nullopt};
      samples_.describe(maker.name, contender.peer->description());
      load_peer(*contender.peer, kKeys);
      for (unsigned thread = 0; thread < cores_; ++thread) contender.sessions.push_back(contender.peer->session());
      contenders_.push_back(std::move(contender));
    }
  }

  void run_round(unsigned round) {
    for (const Workload &workload : kWorkloads) {
      if (!options_.wants(workload.name)) continue;
      for (const unsigned threads : thread_counts_) {
        if (threads <= kMostThreads || workload.scaling) run_workload(round, workload, threads, "");
      }
    }
    if (options_.wants("MIX")) run_mix(round);
    check_sums();
  }

  /// Blind writes and, of every fourth ten, deletions and new insertions, in random order.
  void age() {
    for (Contender &contender : contenders_) {
      std::mt19937_64 random(5);
      Session &session = *contender.sessions[0];
      std::vector<Key> keys(kOperations);
      for (std::uint64_t written = 0; written < options_.churn * kKeys; written += kOperations) {
        std::uint64_t id = random() % kKeys;
        for (Key &key : keys) key = make_key(id = (id + 7919) % kKeys);  // a prime: no two are the same
        if (random() % 4 == 0) session.remove(keys.data(), keys.size());
        session.put(keys.data(), keys.size());
      }
      contender.sum.reset();
      contender.peer->settle();
    }
  }

  void run_aged_round(unsigned round) {
    for (const Workload &workload : kWorkloads) {
      if (!workload.aged || !options_.wants(workload.name)) continue;
      for (const unsigned threads : {1U, 2U}) run_workload(round, workload, threads, ", aged");
    }
    check_sums();
  }

  /// From begin to the end of the commit, reruns included.
  void run_latencies(unsigned round) {
    for_each(round, "latency", [&](Contender &contender) {
      for (const bool competing : {false, true}) {
        const std::string suffix = competing ? ", beside a writer" : ", alone";
        measure_latencies(contender, workload_named("R10"), "get", suffix, competing);
        measure_latencies(contender, workload_named("W1"), "commit", suffix, competing);
      }
      contender.sum.reset();
    });
  }

 private:
  /// Those that take part in it. Another one begins each round, so that none always runs after the same one.
  template <typename Body>
  void for_each(unsigned round, const std::string &part, Body body) {
    for (std::size_t i = 0; i < contenders_.size(); ++i) {
      Contender &contender = contenders_[(i + round) % contenders_.size()];
      if (!contender.maker.takes(part)) continue;
      body(contender);
      contender.peer->settle();
    }
  }

  void run_workload(unsigned round, const Workload &workload, unsigned threads, const std::string &suffix) {
    for_each(round, workload.name, [&](Contender &contender) {
      if (workload.work == Work::kScan && !contender.peer->can_scan()) return;
      std::vector<Job> jobs;
      for (unsigned thread = 0; thread < threads; ++thread) {
        jobs.push_back({contender.sessions[thread].get(), &feeds_.of(workload, thread, threads), &workload});
      }
      const std::vector<Tally> tallies = run(contender, jobs);
      samples_.add(workload.name + suffix, threads, contender.maker.name, total_rate(workload, tallies),
                   "transactions/s");
      if (threads > 1 && workload.conflicts && contender.maker.transactional) {
        samples_.add(std::string(workload.name) + " aborts" + suffix, threads, contender.maker.name,
                     aborts_per_commit(tallies), "aborts/commit");
      }
    });
  }

  void run_mix(unsigned round) {
    const Workload &reads = workload_named("R10");
    const Workload &writes = workload_named("RMW1");
    for_each(round, "MIX", [&](Contender &contender) {
      const Job reader{contender.sessions[0].get(), &feeds_.of(reads, 0, 1), &reads};
      const Job writer{contender.sessions[1].get(), &feeds_.of(writes, 1, 1), &writes};
      samples_.add("MIX reader alone", 1, contender.maker.name, run(contender, {reader})[0].rate, "transactions/s");
      const std::vector<Tally> tallies = run(contender, {reader, writer});
      samples_.add("MIX reader", 2, contender.maker.name, tallies[0].rate, "transactions/s");
      samples_.add("MIX writer", 2, contender.maker.name, tallies[1].rate, "transactions/s");
    });
  }

  std::vector<Tally> run(Contender &contender, const std::vector<Job> &jobs) {
    const Work work = jobs.back().workload->work;
    if (work == Work::kIncrement && !contender.sum.has_value()) contender.sum = contender.sum_counters();
    std::vector<Tally> tallies = run_jobs(jobs, options_.seconds);
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      const Workload &workload = *jobs[i].workload;
      if (workload.work == Work::kPut || workload.work == Work::kMixed) contender.sum.reset();
      if (workload.work == Work::kIncrement) {
        *contender.sum += static_cast<std::int64_t>(tallies[i].commits * workload.operations);
      }
    }
    return tallies;
  }

  void check_sums() const {
    for (const Contender &contender : contenders_) contender.check_sum();
  }

  void measure_latencies(Contender &contender, const Workload &workload, const std::string &name,
                         const std::string &suffix, bool competing) {
    Workload single = workload;
    single.operations = 1;
    const Workload &writes = workload_named("RMW1");
    std::atomic<bool> stopped{false};
    std::thread writer;
    if (competing) {
      writer = std::thread([&, feed = &feeds_.of(writes, 1, 1)] {
        while (!stopped.load(std::memory_order_relaxed)) run_transaction(*contender.sessions[1], *feed, writes);
      });
    }
    std::vector<double> latencies;
    latencies.reserve(std::size_t{1} << 20);
    Feed &feed = feeds_.of(single, 0, 1);
    const auto limit = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(options_.seconds));
    const auto start = Clock::now();
    for (auto last = start; last - start < limit && latencies.size() < latencies.capacity();) {
      run_transaction(*contender.sessions[0], feed, single);
      const auto now = Clock::now();
      latencies.push_back(nanoseconds(now - last));
      last = now;
    }
    stopped.store(true);
    if (writer.joinable()) writer.join();
    std::sort(latencies.begin(), latencies.end());
    for (const auto &[label, share] : {std::pair{"p50", 0.5}, {"p99", 0.99}, {"p99.9", 0.999}}) {
      const auto position = static_cast<std::size_t>(share * static_cast<double>(latencies.size() - 1));
      samples_.add("latency of " + name + ", " + label + suffix, competing ? 2 : 1, contender.maker.name,
                   latencies[position], "ns");
    }
  }

  const Options &options_;
  Samples &samples_;
  unsigned cores_;
  std::vector<unsigned> thread_counts_;
  std::vector<Contender> contenders_;
  Feeds feeds_;
};

}  // namespace

void measure_workloads(const Options &options, const std::vector<Maker> &makers, const std::string &directory,
                       Samples &samples) {
  const auto wanted = [&options](const Workload &workload) { return options.wants(workload.name); };
  if (std::none_of(std::begin(kWorkloads), std::end(kWorkloads), wanted) && !options.wants("MIX") &&
      !options.wants("latency")) {
    return;
  }
  Matrix matrix(options, makers, directory, samples);
  const auto rounds = [&options](const char *what, unsigned count, const auto &round) {
    for (unsigned i = 0; i < count; ++i) {
      std::printf("%s: round %u of %u\n", what, i + 1, count);
      std::fflush(stdout);
      round(i);
    }
  };
  rounds("workloads", options.rounds, [&](unsigned round) { matrix.run_round(round); });
  if (options.wants("latency")) {
    rounds("latencies", std::min(options.rounds, 3U), [&](unsigned round) { matrix.run_latencies(round); });
  }
  if (options.wants("aged")) {
    std::printf("ageing\n");
    std::fflush(stdout);
    matrix.age();
    rounds("workloads, aged", (options.rounds + 1) / 2, [&](unsigned round) { matrix.run_aged_round(round); });
  }
}

}  // namespace bench
