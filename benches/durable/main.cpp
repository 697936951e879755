// khonsu_durable_bench: durable commits per second, and the time to open after a crash, khonsu and its peers side by
// side on the same disk, by turns. On a shared machine only ratios hold.
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <functional>
#include <random>
#include <sstream>
#include <thread>
#include <vector>

#include "../samples.hpp"
#include "engine.hpp"

namespace durable {
namespace {

using Clock = std::chrono::steady_clock;
constexpr unsigned kThreads[] = {1, 2, 8};
constexpr std::uint64_t kKeys = 100'000;

struct Options {
  std::string out = "target/bench/durable.json";
  std::string disk = "target/bench/disk";
  unsigned rounds = 5;
  double seconds = 1;
  std::uint64_t recovered_megabytes = 1024;
};

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::vector<char> make_value(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<char> value(kValueBytes);
  for (char &byte : value) byte = static_cast<char>(random());
  return value;
}

std::string fresh(const std::string &directory) {
  std::filesystem::remove_all(directory);
  std::filesystem::create_directories(directory);
  return directory;
}

/// Commits per second of so many threads, each putting random keys of 100,000.
double commits_per_second(const Engine &engine, Level level, unsigned threads, const Options &options) {
  const std::string directory = fresh(options.disk + "/" + engine.name());
  double rate = 0;
  {
    const std::unique_ptr<Store> store = engine.open(directory, level);
    std::atomic<bool> counting{false};
    std::atomic<bool> done{false};
    std::atomic<std::uint64_t> commits{0};
    std::vector<std::thread> workers;
    for (unsigned thread = 0; thread < threads; ++thread) {
      workers.emplace_back([&, thread] {
        std::mt19937_64 random(thread);
        const std::vector<char> value = make_value(thread);
        std::uint64_t own = 0;
        while (!done) {
          store->put(Key(random() % kKeys), value.data());
          if (counting) ++own;
        }
        commits += own;
      });
    }
    std::this_thread::sleep_for(std::chrono::duration<double>(options.seconds * 0.2));
    counting = true;
    const auto start = Clock::now();
    std::this_thread::sleep_for(std::chrono::duration<double>(options.seconds));
    done = true;
    const double seconds = since(start);
    for (std::thread &worker : workers) worker.join();
    rate = static_cast<double>(commits) / seconds;
  }
  std::filesystem::remove_all(directory);
  return rate;
}

/// Seconds to read all files of a directory once.
double read_time(const std::string &directory, double *megabytes) {
  const auto start = Clock::now();
  std::vector<char> buffer(std::size_t{4} << 20);
  double bytes = 0;
  for (const auto &entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (!entry.is_regular_file()) continue;
    const int file = ::open(entry.path().c_str(), O_RDONLY);
    require(file >= 0, "a file cannot be read");
    for (ssize_t got; (got = ::read(file, buffer.data(), buffer.size())) > 0;) bytes += static_cast<double>(got);
    ::close(file);
  }
  *megabytes = bytes / 1e6;
  return since(start);
}

struct Recovery {
  double open_seconds;
  double read_seconds;
  double megabytes;
};

/// Takes the files of a directory out of the page cache.
void forget(const std::string &directory) {
  for (const auto &entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (!entry.is_regular_file()) continue;
    const int file = ::open(entry.path().c_str(), O_RDONLY);
    require(file >= 0 && fdatasync(file) == 0 && posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED) == 0,
            "a file cannot be taken out of the page cache");
    ::close(file);
  }
}

/// What the program does as the child of `recover`: fills a store and ends without closing it.
int fill(const Engine &engine, const std::string &directory, std::uint64_t keys) {
  const std::unique_ptr<Store> store = engine.open(directory, Level::kBuffered);
  constexpr std::uint64_t kTogether = 100;
  for (std::uint64_t first = 0; first < keys; first += kTogether) {
    store->fill(first, std::min(kTogether, keys - first), make_value(first).data());
  }
  store->sync();
  _exit(0);
}

/// Fills a store in a process that does not close it, and opens it. The files are on the disk alone then, for the
/// opening as for the reading that it is compared with.
Recovery recover(const Engine &engine, const Options &options) {
  const std::string directory = fresh(options.disk + "/" + engine.name());
  const std::uint64_t keys = options.recovered_megabytes * 1'000'000 / kValueBytes;
  std::string keys_text = std::to_string(keys), name = engine.name(), path = directory;
  char program[] = "/proc/self/exe", verb[] = "--fill";
  char *arguments[] = {program, verb, name.data(), path.data(), keys_text.data(), nullptr};
  // A program of its own, no fork: threads of the engines that this process has used would be missing in it.
  pid_t child = 0;
  require(posix_spawn(&child, program, nullptr, nullptr, arguments, environ) == 0, "posix_spawn");
  int status = 0;
  waitpid(child, &status, 0);
  require(status == 0, engine.name() + ": the store could not be filled");
  Recovery recovery{};
  forget(directory);
  recovery.read_seconds = read_time(directory, &recovery.megabytes);
  forget(directory);
  const auto start = Clock::now();
  {
    const std::unique_ptr<Store> store = engine.open(directory, Level::kBuffered);
    recovery.open_seconds = since(start);
    require(store->has(Key(keys - 1)) && store->has(Key(0)) && !store->has(Key(keys)), engine.name() + ": lost keys");
  }
  std::filesystem::remove_all(directory);
  return recovery;
}

[[noreturn]] void usage() {
  std::fputs(
      "usage: khonsu_durable_bench [--out FILE] [--disk DIR] [--rounds N] [--seconds S] [--megabytes N] [--quick]\n"
      "  --out FILE     the samples, for benches/report (target/bench/durable.json)\n"
      "  --disk DIR     where the stores are; on the disk to be measured (target/bench/disk)\n"
      "  --rounds N     rounds, of which the medians are reported (5)\n"
      "  --seconds S    measured time of each run (1)\n"
      "  --megabytes N  values that are opened again (1024)\n"
      "  --quick        2 rounds of 0.3 s, 128 megabytes\n",
      stderr);
  std::exit(2);
}

Options parse(int argc, char **argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--quick") {
      options.rounds = 2;
      options.seconds = 0.3;
      options.recovered_megabytes = 128;
      continue;
    }
    if (i + 1 == argc) usage();
    const std::string value = argv[++i];
    if (name == "--out") {
      options.out = value;
    } else if (name == "--disk") {
      options.disk = value;
    } else if (name == "--rounds" && std::atoi(value.c_str()) > 0) {
      options.rounds = static_cast<unsigned>(std::atoi(value.c_str()));
    } else if (name == "--seconds" && std::atof(value.c_str()) > 0) {
      options.seconds = std::atof(value.c_str());
    } else if (name == "--megabytes" && std::atoi(value.c_str()) > 0) {
      options.recovered_megabytes = static_cast<std::uint64_t>(std::atoi(value.c_str()));
    } else {
      usage();
    }
  }
  return options;
}

std::vector<std::unique_ptr<Engine>> make_engines() {
  std::vector<std::unique_ptr<Engine>> engines;
  engines.push_back(make_khonsu());
  engines.push_back(make_rocksdb());
  engines.push_back(make_lmdb());
  engines.push_back(make_sqlite());
  return engines;
}

const Engine &engine_of(const std::vector<std::unique_ptr<Engine>> &engines, const std::string &name) {
  for (const auto &engine : engines) {
    if (engine->name() == name) return *engine;
  }
  fail("no engine is called " + name);
}

int run(const Options &options) {
  const std::vector<std::unique_ptr<Engine>> engines = make_engines();

  bench::Samples samples;
  std::ostringstream command;
  command << "khonsu_durable_bench --rounds " << options.rounds << " --seconds " << options.seconds << " --megabytes "
          << options.recovered_megabytes;
  samples.note("command", command.str());
  samples.note("rounds", std::to_string(options.rounds));
  for (const auto &engine : engines) {
    std::string settings;
    for (const Level level : kLevels) {
      if (engine->setting(level).empty()) continue;
      settings += std::string("; ") + kLevelNames[static_cast<int>(level)] + " is " + engine->setting(level);
    }
    samples.describe(engine->name(), engine->version() + settings);
  }

  for (unsigned round = 0; round < options.rounds; ++round) {
    std::printf("durable commits: round %u of %u\n", round + 1, options.rounds);
    std::fflush(stdout);
    for (const Level level : kLevels) {
      for (const unsigned threads : kThreads) {
        for (std::size_t i = 0; i < engines.size(); ++i) {
          const Engine &engine = *engines[(i + round) % engines.size()];
          if (engine.setting(level).empty()) continue;
          samples.add(std::string("durable put, ") + kLevelNames[static_cast<int>(level)], threads, engine.name(),
                      commits_per_second(engine, level, threads, options), "commits/s");
        }
      }
    }
  }
  for (unsigned round = 0; round < std::min(options.rounds, 3U); ++round) {
    for (const char *name : {"khonsu", "rocksdb"}) {
      const Recovery recovery = recover(engine_of(engines, name), options);
      samples.add("recovery: files", 1, name, recovery.megabytes, "MB");
      samples.add("recovery: reading the files", 1, name, recovery.read_seconds, "s");
      samples.add("recovery: opening", 1, name, recovery.open_seconds, "s");
    }
  }
  require(samples.write(options.out), options.out + " cannot be written");
  std::filesystem::remove_all(options.disk);
  return 0;
}

}  // namespace
}  // namespace durable

int main(int argc, char **argv) {
  if (argc == 5 && std::string(argv[1]) == "--fill") {
    const auto engines = durable::make_engines();
    return durable::fill(durable::engine_of(engines, argv[2]), argv[3], std::stoull(argv[4]));
  }
  return durable::run(durable::parse(argc, argv));
}
