// khonsu_bench: the workloads of transactional key-value stores, khonsu and its peers side by side.
//
// The peers run in turns: a round is one short run of each workload by each peer, and what is reported is the median
// over the rounds. On a shared machine the ratios hold, the absolute numbers move.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <ctime>
#include <filesystem>
#include <functional>
#include <map>
#include <random>
#include <thread>

#include <unistd.h>

#include "bench.hpp"

namespace bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kKeys = 100'000;
constexpr double kZipfTheta = 0.99;
constexpr std::size_t kRing = std::size_t{1} << 19;  // keys drawn ahead for one thread
constexpr double kWarmUp = 0.2;                       // of the measured time

enum class Work { kRead10, kScan, kPut, kRmw1, kRmw10, kA, kB, kEmptyReadOnly, kEmpty, kDisjoint };

struct Options {
  std::string out = "target/bench";
  std::string only;
  unsigned rounds = 5;
  double seconds = 0.4;
};

// -- keys ------------------------------------------------------------------------------------------------------------

/// Ranks drawn with a zipf distribution, by search in its cumulated weights: exact, and not on the clock.
class Zipf {
 public:
  Zipf(std::uint64_t count, double theta) : cumulated_(count) {
    double sum = 0;
    for (std::uint64_t rank = 0; rank < count; ++rank) {
      sum += 1.0 / std::pow(static_cast<double>(rank + 1), theta);
      cumulated_[rank] = sum;
    }
  }

  template <typename Random>
  std::uint64_t operator()(Random &random) const {
    const double point = std::uniform_real_distribution<double>(0, cumulated_.back())(random);
    const auto found = std::upper_bound(cumulated_.begin(), cumulated_.end(), point);
    return std::min<std::uint64_t>(static_cast<std::uint64_t>(found - cumulated_.begin()), cumulated_.size() - 1);
  }

 private:
  std::vector<double> cumulated_;
};

/// The keys of one thread, drawn before the clock starts and read in order while it runs.
class Feed {
 public:
  Feed(std::vector<Key> keys, std::vector<unsigned char> writes) : keys_(std::move(keys)), writes_(std::move(writes)) {}

  /// The next `count` positions, wrapping around.
  std::size_t take(std::size_t count) {
    if (position_ + count > keys_.size()) position_ = 0;
    const std::size_t taken = position_;
    position_ += count;
    return taken;
  }
  const Key *keys(std::size_t position) const { return &keys_[position]; }
  const unsigned char *writes(std::size_t position) const { return &writes_[position]; }

 private:
  std::vector<Key> keys_;
  std::vector<unsigned char> writes_;
  std::size_t position_ = 0;
};

class Feeds {
 public:
  Feeds() : zipf_(kKeys, kZipfTheta), scattered_(kKeys) {
    // The hot keys are spread over the whole order, as hashing users' names would.
    for (std::uint64_t id = 0; id < kKeys; ++id) scattered_[id] = id;
    std::mt19937_64 random(1);
    std::shuffle(scattered_.begin(), scattered_.end(), random);
  }

  Feed make(Work work, unsigned thread, unsigned threads) const {
    std::mt19937_64 random(1000 + thread);
    const double write_share = work == Work::kA ? 0.5 : 0.05;
    const std::uint64_t slice = kKeys / threads;
    std::vector<Key> keys(kRing);
    std::vector<unsigned char> writes(kRing);
    for (std::size_t i = 0; i < kRing; ++i) {
      std::uint64_t id = 0;
      if (work == Work::kDisjoint) {
        id = thread * slice + random() % slice;
      } else {
        id = scattered_[zipf_(random)];
      }
      if (work == Work::kScan) id = std::min<std::uint64_t>(id, kKeys - kScanKeys);
      keys[i] = make_key(id);
      writes[i] = std::bernoulli_distribution(write_share)(random) ? 1 : 0;
    }
    return {std::move(keys), std::move(writes)};
  }

 private:
  Zipf zipf_;
  std::vector<std::uint64_t> scattered_;
};

// -- one run ---------------------------------------------------------------------------------------------------------

std::uint64_t run_one(Session &session, Feed &feed, Work work) {
  switch (work) {
    case Work::kRead10:
      return session.read(feed.keys(feed.take(kOperations)), kOperations);
    case Work::kScan:
      return session.scan(*feed.keys(feed.take(1)));
    case Work::kPut:
      return session.put(*feed.keys(feed.take(1)));
    case Work::kRmw1:
      return session.read_modify_write(feed.keys(feed.take(1)), 1);
    case Work::kRmw10:
    case Work::kDisjoint:
      return session.read_modify_write(feed.keys(feed.take(kOperations)), kOperations);
    case Work::kA:
    case Work::kB: {
      const std::size_t position = feed.take(kOperations);
      return session.mixed(feed.keys(position), feed.writes(position));
    }
    case Work::kEmptyReadOnly:
      return session.empty(true);
    case Work::kEmpty:
      return session.empty(false);
  }
  fail("unknown workload");
}

/// What each commit of `work` adds to the sum of all counters; kResets where blind puts set counters back.
constexpr std::int64_t kResets = -1;

std::int64_t increments_of(Work work) {
  switch (work) {
    case Work::kRmw1:
      return 1;
    case Work::kRmw10:
    case Work::kDisjoint:
      return kOperations;
    case Work::kPut:
    case Work::kA:
    case Work::kB:
      return kResets;
    default:
      return 0;
  }
}

/// What one thread did. The counts include the warm-up.
struct alignas(128) Tally {
  double rate = 0;  // commits per second, without the warm-up
  std::uint64_t commits = 0;
  std::uint64_t aborts = 0;
};

double total_rate(const std::vector<Tally> &tallies) {
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

struct Job {
  Session *session;
  Feed *feed;
  Work work;
};

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
        while (phase.load(std::memory_order_relaxed) == wanted) {
          for (int turn = 0; turn < 4; ++turn) tally.aborts += run_one(*job.session, *job.feed, job.work);
          commits += 4;
        }
        tally.commits += commits;
        return commits;
      };
      started.fetch_add(1);
      run_while(kWarming);
      const Clock::time_point start = Clock::now();
      const std::uint64_t measured = run_while(kMeasuring);
      const std::chrono::duration<double> elapsed = Clock::now() - start;
      tally.rate = static_cast<double>(measured) / elapsed.count();
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

// -- the matrix ------------------------------------------------------------------------------------------------------

class Matrix {
 public:
  Matrix(const Options &options, const std::string &directory) : options_(options) {
    peers_.push_back(make_khonsu());
    peers_.push_back(make_shared_mutex_map());
    peers_.push_back(make_lmdb(directory));
    peers_.push_back(make_rocksdb(directory));
    for (unsigned threads = 1; threads <= std::max(2U, std::thread::hardware_concurrency()); threads *= 2) {
      thread_counts_.push_back(threads);
    }
    sessions_.resize(peers_.size());
    for (std::size_t peer = 0; peer < peers_.size(); ++peer) {
      peers_[peer]->load(kKeys);
      peers_[peer]->settle();
      for (unsigned thread = 0; thread < thread_counts_.back(); ++thread) {
        sessions_[peer].push_back(peers_[peer]->session());
      }
    }
  }

  std::vector<std::string> versions() const {
    std::vector<std::string> versions;
    for (const auto &peer : peers_) versions.push_back(peer->name() + ": " + peer->version());
    return versions;
  }

  void run_round(unsigned round) {
    struct Line {
      const char *name;
      Work work;
    };
    static constexpr Line kLines[] = {
        {"R10", Work::kRead10}, {"SCAN", Work::kScan},   {"W1", Work::kPut},
        {"RMW1", Work::kRmw1},  {"RMW10", Work::kRmw10}, {"A", Work::kA},
        {"B", Work::kB},        {"EMPTY", Work::kEmpty}, {"EMPTY read-only", Work::kEmptyReadOnly},
        {"RMW10 disjoint", Work::kDisjoint},
    };
    for (const Line &line : kLines) {
      if (!wanted(line.name)) continue;
      for (const unsigned threads : thread_counts_) {
        for_each_peer(round, [&](std::size_t peer) {
          if (line.work == Work::kScan && !peers_[peer]->can_scan()) return;
          std::vector<Job> jobs;
          for (unsigned thread = 0; thread < threads; ++thread) jobs.push_back(job(peer, thread, threads, line.work));
          const std::vector<Tally> tallies = run_checked(peer, jobs);
          add(line.name, threads, peer, total_rate(tallies), "transactions/s");
          if (threads > 1 && (line.work == Work::kA || line.work == Work::kB || line.work == Work::kRmw10)) {
            add(std::string(line.name) + " aborts", threads, peer, aborts_per_commit(tallies), "aborts/commit");
          }
        });
      }
    }
    if (wanted("MIX")) {
      for_each_peer(round, [&](std::size_t peer) {
        const Job reader = job(peer, 0, 1, Work::kRead10);
        const Job writer = job(peer, 1, 2, Work::kRmw1);
        add("MIX reader alone", 1, peer, run_checked(peer, {reader})[0].rate, "transactions/s");
        const std::vector<Tally> tallies = run_checked(peer, {reader, writer});
        add("MIX reader", 2, peer, tallies[0].rate, "transactions/s");
        add("MIX writer", 2, peer, tallies[1].rate, "transactions/s");
      });
    }
  }

  std::vector<Measurement> take_measurements() { return std::move(measurements_); }

 private:
  bool wanted(const std::string &name) const {
    return options_.only.empty() || name == options_.only || name.rfind(options_.only + " ", 0) == 0;
  }

  /// Another peer begins each round, so that none always runs after the same one.
  void for_each_peer(unsigned round, const std::function<void(std::size_t)> &body) {
    for (std::size_t i = 0; i < peers_.size(); ++i) {
      const std::size_t peer = (i + round) % peers_.size();
      body(peer);
      peers_[peer]->settle();
    }
  }

  Job job(std::size_t peer, unsigned thread, unsigned threads, Work work) {
    // A and B differ in their writes, scans in their last keys, disjoint keys in the slices; the rest share a feed.
    const bool own = work == Work::kA || work == Work::kScan || work == Work::kDisjoint;
    const Work kind = own ? work : Work::kB;
    const unsigned slices = work == Work::kDisjoint ? threads : 1;
    const auto name = std::make_tuple(static_cast<int>(kind), thread, slices);
    auto found = feeds_.find(name);
    if (found == feeds_.end()) found = feeds_.emplace(name, source_.make(kind, thread, slices)).first;
    return {sessions_[peer][thread].get(), &found->second, work};
  }

  /// The rate of an engine that loses updates would be worth nothing, so each run of increments is checked.
  std::vector<Tally> run_checked(std::size_t peer, const std::vector<Job> &jobs) {
    bool increments = false;
    for (const Job &job : jobs) increments |= increments_of(job.work) > 0;
    const std::int64_t before = increments ? peers_[peer]->sum_counters() : 0;
    std::vector<Tally> tallies = run_jobs(jobs, options_.seconds);
    if (increments) {
      std::int64_t expected = before;
      for (std::size_t i = 0; i < jobs.size(); ++i) {
        expected += static_cast<std::int64_t>(tallies[i].commits) * increments_of(jobs[i].work);
      }
      const std::int64_t found = peers_[peer]->sum_counters();
      if (found != expected) {
        fail(peers_[peer]->name() + " lost updates: the counters sum to " + std::to_string(found) + " instead of " +
             std::to_string(expected));
      }
    }
    return tallies;
  }

  void add(const std::string &workload, unsigned threads, std::size_t peer, double value, const char *unit) {
    const std::string name = peers_[peer]->name();
    for (Measurement &measurement : measurements_) {
      if (measurement.workload == workload && measurement.threads == threads && measurement.peer == name) {
        measurement.samples.push_back(value);
        return;
      }
    }
    measurements_.push_back({workload, threads, name, {value}, unit});
  }

  const Options &options_;
  std::vector<std::unique_ptr<Peer>> peers_;
  std::vector<std::vector<std::unique_ptr<Session>>> sessions_;
  std::vector<unsigned> thread_counts_;
  Feeds source_;
  std::map<std::tuple<int, unsigned, unsigned>, Feed> feeds_;
  std::vector<Measurement> measurements_;
};

// -- the program -----------------------------------------------------------------------------------------------------

/// A directory on the RAM disk where there is one, removed at exit.
class Scratch {
 public:
  Scratch() {
    const bool has_ram_disk = std::filesystem::is_directory("/dev/shm");
    std::string pattern =
        ((has_ram_disk ? std::filesystem::path("/dev/shm") : std::filesystem::temp_directory_path()) / "khonsu-XXXXXX")
            .string();
    if (mkdtemp(pattern.data()) == nullptr) fail("no directory for the peers' files");
    if (!has_ram_disk) std::fprintf(stderr, "khonsu_bench: no /dev/shm: the peers write to a real disk\n");
    path() = pattern;
    owner() = getpid();
    std::atexit([] {
      std::error_code ignored;
      if (getpid() == owner()) std::filesystem::remove_all(path(), ignored);
    });
  }

  static std::string &path() {
    static std::string path;
    return path;
  }

 private:
  static pid_t &owner() {
    static pid_t owner = 0;
    return owner;
  }
};

[[noreturn]] void usage() {
  std::fputs(
      "usage: khonsu_bench [--out DIR] [--rounds N] [--seconds S] [--quick] [--only WORKLOAD]\n"
      "  --out DIR        where report.md and report.json go (target/bench)\n"
      "  --rounds N       rounds, of which the medians are reported (5)\n"
      "  --seconds S      measured time of each run (0.4)\n"
      "  --quick          3 rounds of 0.1 s\n"
      "  --only WORKLOAD  R10 SCAN W1 RMW1 RMW10 A B MIX EMPTY BOUNDARY GROWTH\n",
      stderr);
  std::exit(2);
}

Options parse(int argc, char **argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    const auto value = [&]() -> std::string {
      if (i + 1 == argc) usage();
      return argv[++i];
    };
    const auto number = [&] {
      const std::string text = value();
      char *end = nullptr;
      const double parsed = std::strtod(text.c_str(), &end);
      if (end == text.c_str() || *end != '\0' || !(parsed > 0)) usage();
      return parsed;
    };
    if (name == "--out") {
      options.out = value();
    } else if (name == "--rounds") {
      options.rounds = static_cast<unsigned>(std::max(1.0, number()));
    } else if (name == "--seconds") {
      options.seconds = number();
    } else if (name == "--quick") {
      options.rounds = 3;
      options.seconds = 0.1;
    } else if (name == "--only") {
      options.only = value();
    } else {
      usage();
    }
  }
  static const char *const kNames[] = {"R10", "SCAN", "W1",  "RMW1",  "RMW10",   "A",
                                       "B",   "MIX",  "EMPTY", "BOUNDARY", "GROWTH"};
  const bool known = std::find(std::begin(kNames), std::end(kNames), options.only) != std::end(kNames);
  if (!options.only.empty() && !known) usage();
  return options;
}

std::string command_of(const Options &options) {
  char text[96];
  std::snprintf(text, sizeof(text), "khonsu_bench --rounds %u --seconds %g", options.rounds, options.seconds);
  return text + (options.only.empty() ? std::string() : " --only " + options.only);
}

std::string today() {
  const std::time_t now = std::time(nullptr);
  char text[16];
  std::strftime(text, sizeof(text), "%Y-%m-%d", std::gmtime(&now));
  return text;
}

int run(int argc, char **argv) {
  const Options options = parse(argc, argv);
  const Scratch scratch;
  std::vector<Measurement> all;
  const auto take = [&all](std::vector<Measurement> more) {
    std::move(more.begin(), more.end(), std::back_inserter(all));
  };
  // These fork, so they come before any thread exists.
  if (options.only.empty() || options.only == "GROWTH") {
    std::printf("memory and growth\n");
    take(measure_growth_and_memory(std::min(options.rounds, 3U), options.seconds, Scratch::path()));
  }
  if (options.only.empty() || options.only == "BOUNDARY") {
    std::printf("calls across the boundary\n");
    take(measure_boundary(options.rounds, options.seconds));
  }
  Matrix matrix(options, Scratch::path());
  for (unsigned round = 0; round < options.rounds; ++round) {
    std::printf("round %u of %u\n", round + 1, options.rounds);
    std::fflush(stdout);
    matrix.run_round(round);
  }
  const ReportHeader header{command_of(options), today(),          options.seconds,
                            options.rounds,      kKeys,            matrix.versions()};
  take(matrix.take_measurements());
  write_reports(options.out, header, all);
  std::printf("%s/report.md and report.json written\n", options.out.c_str());
  return 0;
}

}  // namespace
}  // namespace bench

int main(int argc, char **argv) { return bench::run(argc, argv); }
