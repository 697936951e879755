// khonsu_bench: khonsu and its peers side by side. On a shared machine the ratios hold, the absolute numbers move.
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <sstream>

#include "sections.hpp"
#include "workload.hpp"

namespace bench {
namespace {

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
      "usage: khonsu_bench [--out FILE] [--rust-peers LIBRARY] [--only NAME,...] [--peers NAME,...]\n"
      "                    [--rounds N] [--seconds S] [--churn N] [--quick]\n"
      "  --out FILE            the samples, for benches/report (target/bench/workloads.json)\n"
      "  --rust-peers LIBRARY  the peers of benches/rust\n"
      "  --only NAME,...       R10 SCAN W1 RMW1 RMW10 A B EMPTY MIX memory growth costs boundary latency\n"
      "                        aged\n"
      "  --peers NAME,...      khonsu 'khonsu (a get each)' shared_mutex+unordered_map shared_mutex+map lmdb\n"
      "                        rocksdb sqlite ...\n"
      "  --rounds N            rounds, of which the medians are reported (5)\n"
      "  --seconds S           measured time of each run (0.3)\n"
      "  --churn N             writes a key that age the peers (10)\n"
      "  --quick               2 rounds of 0.05 s, churn of 1\n",
      stderr);
  std::exit(2);
}

std::vector<std::string> split(const std::string &text) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, ',');) parts.push_back(part);
  return parts;
}

Options parse(int argc, char **argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--quick") {
      options.rounds = 2;
      options.seconds = 0.05;
      options.churn = 1;
      continue;
    }
    if (i + 1 == argc) usage();
    const std::string value = argv[++i];
    const double number = std::atof(value.c_str());
    if (name == "--out") {
      options.out = value;
    } else if (name == "--rust-peers") {
      options.rust_peers = value;
    } else if (name == "--only") {
      options.only = split(value);
    } else if (name == "--peers") {
      options.peers = split(value);
    } else if (name == "--rounds" && number >= 1) {
      options.rounds = static_cast<unsigned>(number);
    } else if (name == "--seconds" && number > 0) {
      options.seconds = number;
    } else if (name == "--churn" && number >= 1) {
      options.churn = static_cast<unsigned>(number);
    } else {
      usage();
    }
  }
  return options;
}

std::vector<Maker> makers_of(const Options &options) {
  std::vector<Maker> makers = {khonsu_maker(), khonsu_get_each_maker(), unordered_map_maker(), ordered_map_maker(),
                               lmdb_maker(),   rocksdb_maker(),         sqlite_maker()};
  if (!options.rust_peers.empty()) {
    for (Maker &maker : load_rust_makers(options.rust_peers)) makers.push_back(std::move(maker));
  }
  const auto unwanted = [&options](const Maker &maker) {
    return !options.peers.empty() &&
           std::find(options.peers.begin(), options.peers.end(), maker.name) == options.peers.end();
  };
  makers.erase(std::remove_if(makers.begin(), makers.end(), unwanted), makers.end());
  if (makers.empty()) usage();
  return makers;
}

int run(int argc, char **argv) {
  const Options options = parse(argc, argv);
  const Scratch scratch;
  const std::vector<Maker> makers = makers_of(options);
  Samples samples;
  std::string command;
  for (int i = 0; i < argc; ++i) command += (i == 0 ? "" : " ") + std::string(i == 0 ? "khonsu_bench" : argv[i]);
  std::ostringstream seconds;
  seconds << options.seconds;
  samples.note("command", command);
  samples.note("rounds", std::to_string(options.rounds));
  samples.note("seconds", seconds.str());
  samples.note("keys", std::to_string(kKeys));
  samples.note("churn", std::to_string(options.churn));
  double load = 0;
  if (getloadavg(&load, 1) == 1) samples.note("load", std::to_string(load).substr(0, 4));

  const auto section = [&options](const char *name, const auto &measure) {
    if (!options.wants(name)) return;
    std::printf("%s\n", name);
    std::fflush(stdout);
    measure();
  };
  section("memory", [&] { measure_memory(options, makers, Scratch::path(), samples); });
  section("growth", [&] { measure_growth(options, samples); });
  section("costs", [&] { measure_costs(options, samples); });
  section("boundary", [&] { measure_boundary(options, makers, Scratch::path(), samples); });
  measure_workloads(options, makers, Scratch::path(), samples);

  std::filesystem::create_directories(std::filesystem::absolute(options.out).parent_path());
  if (!samples.write(options.out)) fail(options.out + " cannot be written");
  return 0;
}

}  // namespace
}  // namespace bench

int main(int argc, char **argv) { return bench::run(argc, argv); }
