// The parts of a run. Each adds to the samples; those that fork come before any thread exists.
#ifndef KHONSU_BENCHES_SECTIONS_HPP
#define KHONSU_BENCHES_SECTIONS_HPP

#include <string>
#include <vector>

#include "peer.hpp"
#include "samples.hpp"

namespace bench {

struct Options {
  std::string out = "target/bench/workloads.json";
  std::string rust_peers;
  std::vector<std::string> only;   // workloads and sections; empty: all
  std::vector<std::string> peers;  // empty: all
  unsigned rounds = 5;
  double seconds = 0.3;
  unsigned churn = 10;  // writes a key that age the peers

  bool wants(const std::string &name) const {
    const auto matches = [&name](const std::string &only) { return name == only || name.rfind(only + " ", 0) == 0; };
    return only.empty() || std::any_of(only.begin(), only.end(), matches);
  }
};

/// Bytes and nanoseconds at 10,000 and 1,000,000 keys; forks.
void measure_memory(const Options &options, const std::vector<Maker> &makers, const std::string &directory,
                    Samples &samples);
/// What khonsu's calls cost as keys, operations, old snapshots and rows grow; forks.
void measure_growth(const Options &options, Samples &samples);
/// What conflicts and old snapshots cost.
void measure_costs(const Options &options, Samples &samples);
/// What one call across the C boundary costs, beside khonsu from Rust.
void measure_boundary(const Options &options, const std::vector<Maker> &makers, const std::string &directory,
                      Samples &samples);
/// The workloads, by turns, fresh and aged, and the latencies.
void measure_workloads(const Options &options, const std::vector<Maker> &makers, const std::string &directory,
                       Samples &samples);

}  // namespace bench

#endif
