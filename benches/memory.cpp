// How much memory a key takes, and what a get costs among many keys, each peer in a process of its own.
#include <malloc.h>
#include <unistd.h>

#include <filesystem>
#include <random>

#include "runner.hpp"
#include "sections.hpp"

namespace bench {
namespace {

std::size_t resident_bytes() {
  std::FILE *file = std::fopen("/proc/self/statm", "r");
  unsigned long long total = 0;
  unsigned long long resident = 0;
  const bool read = file != nullptr && std::fscanf(file, "%llu %llu", &total, &resident) == 2;
  if (file != nullptr) std::fclose(file);
  if (!read) fail("/proc/self/statm cannot be read");
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

/// Bytes handed out by malloc, the mapped ones included.
std::size_t allocated_bytes() {
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

/// Resident and allocated bytes a key, nanoseconds a get.
std::vector<double> measure_loaded(const Maker &maker, const std::string &directory, std::uint64_t count,
                                   double seconds) {
  std::vector<Key> keys;
  std::mt19937_64 random(7);
  for (std::size_t i = 0; i < (std::size_t{1} << 20); ++i) keys.push_back(make_key(random() % count));
  const std::unique_ptr<Peer> peer = maker.make(directory);
  malloc_trim(0);
  const std::size_t resident = resident_bytes();
  const std::size_t allocated = allocated_bytes();
  load_peer(*peer, count);
  malloc_trim(0);
  const auto per_key = [count](std::size_t now, std::size_t before) {
    return (static_cast<double>(now) - static_cast<double>(before)) / static_cast<double>(count);
  };
  const double resident_per_key = per_key(resident_bytes(), resident);
  const double allocated_per_key = per_key(allocated_bytes(), allocated);
  const std::unique_ptr<Session> session = peer->session();
  std::size_t position = 0;
  const double nanoseconds_per_get = time_calls(seconds, 100 * kOperations, [&] {
    for (int turn = 0; turn < 100; ++turn, position += kOperations) {
      if (position + kOperations > keys.size()) position = 0;
      session->read(&keys[position], kOperations);
    }
  });
  return {resident_per_key, allocated_per_key, nanoseconds_per_get};
}

}  // namespace

void measure_memory(const Options &options, const std::vector<Maker> &makers, const std::string &directory,
                    Samples &samples) {
  constexpr std::pair<const char *, std::uint64_t> kCounts[] = {{"10k", 10'000}, {"1M", 1'000'000}};
  const std::string place = directory + "/memory";
  for (unsigned round = 0; round < (options.rounds + 1) / 3; ++round) {
    for (const Maker &maker : makers) {
      for (const auto &[name, count] : kCounts) {
        std::filesystem::remove_all(place);
        std::filesystem::create_directories(place);
        const std::vector<double> values =
            in_child([&, count = count] { return measure_loaded(maker, place, count, options.seconds); });
        const std::string at = std::string(" at ") + name + " keys";
        samples.add("get" + at, 1, maker.name, values[2], "ns");
        if (count < kCounts[1].second) continue;
        samples.add("memory" + at + ", resident", 1, maker.name, values[0], "bytes/key");
        if (maker.mallocs) samples.add("memory" + at + ", allocated", 1, maker.name, values[1], "bytes/key");
      }
    }
  }
  std::filesystem::remove_all(place);
}

}  // namespace bench
