#include "workload.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

namespace bench {
namespace {

constexpr std::size_t kRing = std::size_t{1} << 19;  // keys drawn ahead for one thread

}  // namespace

Feeds::Feeds() : cumulated_(kKeys), scattered_(kKeys) {
  double sum = 0;
  for (std::uint64_t rank = 0; rank < kKeys; ++rank) {
    sum += 1.0 / std::pow(static_cast<double>(rank + 1), kZipfTheta);
    cumulated_[rank] = sum;
  }
  // The hot keys are spread over the whole order, as hashing users' names would.
  std::iota(scattered_.begin(), scattered_.end(), 0);
  std::mt19937_64 random(1);
  std::shuffle(scattered_.begin(), scattered_.end(), random);
}

/// A rank, by search in the cumulated weights: exact, and not on the clock.
std::uint64_t Feeds::zipf(double point) const {
  const auto found = std::upper_bound(cumulated_.begin(), cumulated_.end(), point * cumulated_.back());
  return std::min<std::uint64_t>(static_cast<std::uint64_t>(found - cumulated_.begin()), kKeys - 1);
}

Feed &Feeds::of(const Workload &workload, unsigned thread, unsigned threads) {
  const bool scan = workload.work == Work::kScan;
  const double write_share = workload.work == Work::kMixed ? workload.write_share : 0;
  const unsigned slices = workload.keys == KeyChoice::kDisjoint ? threads : 1;
  const auto name = std::make_tuple(workload.keys, scan, write_share, thread, slices);
  const auto found = feeds_.find(name);
  if (found != feeds_.end()) return found->second;

  std::mt19937_64 random(1000 + thread);
  std::uniform_real_distribution<double> uniform(0, 1);
  std::vector<Key> keys(kRing);
  std::vector<unsigned char> writes(kRing);
  for (std::size_t i = 0; i < kRing; ++i) {
    std::uint64_t id = scattered_[0];
    if (workload.keys == KeyChoice::kZipf) {
      id = scattered_[zipf(uniform(random))];
    } else if (workload.keys == KeyChoice::kDisjoint) {
      id = thread * (kKeys / slices) + random() % (kKeys / slices);
    }
    if (scan) id = std::min<std::uint64_t>(id, kKeys - kScanKeys);
    keys[i] = make_key(id);
    writes[i] = uniform(random) < write_share ? 1 : 0;
  }
  return feeds_.emplace(name, Feed(std::move(keys), std::move(writes))).first->second;
}

}  // namespace bench
