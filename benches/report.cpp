// report.md for people, report.json for programs.
#include <sys/utsname.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>
#include <thread>

#include "bench.hpp"

namespace bench {
namespace {

double median_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

const char *const kPeers[] = {"khonsu", "shared_mutex+unordered_map", "lmdb", "rocksdb"};

/// The goals of the project. A goal without a peer is about the value itself.
struct Target {
  const char *goal;
  const char *workload;
  unsigned threads;
  const char *against_workload;  // NULL: the same one
  const char *against_peer;      // NULL: none, the value is absolute
  double first;                  // 0: no goal against this peer
  double then;
  bool less_is_better;
};

constexpr Target kTargets[] = {
    {"R10 / lmdb", "R10", 1, nullptr, "lmdb", 2.0, 0, false},
    {"R10 / map", "R10", 1, nullptr, "shared_mutex+unordered_map", 0, 1.0, false},
    {"W1 / lmdb", "W1", 1, nullptr, "lmdb", 1.0, 2.0, false},
    {"W1 / rocksdb", "W1", 1, nullptr, "rocksdb", 10, 0, false},
    {"RMW1 / lmdb", "RMW1", 1, nullptr, "lmdb", 1.0, 2.0, false},
    {"RMW1 / rocksdb", "RMW1", 1, nullptr, "rocksdb", 10, 0, false},
    {"RMW10 / lmdb", "RMW10", 1, nullptr, "lmdb", 1.5, 0, false},
    {"RMW10 / map", "RMW10", 1, nullptr, "shared_mutex+unordered_map", 0, 1.0, false},
    {"A, 2 threads / lmdb", "A", 2, nullptr, "lmdb", 1.5, 0, false},
    {"A, 2 threads / map", "A", 2, nullptr, "shared_mutex+unordered_map", 0, 1.0, false},
    {"B, 2 threads / lmdb", "B", 2, nullptr, "lmdb", 1.5, 0, false},
    {"B, 2 threads / map", "B", 2, nullptr, "shared_mutex+unordered_map", 0, 1.0, false},
    {"SCAN / lmdb", "SCAN", 1, nullptr, "lmdb", 0, 1.0, false},
    {"MIX reader / the reader alone", "MIX reader", 2, "MIX reader alone", "khonsu", 0.8, 0.95, false},
    {"EMPTY read-only, transactions/s", "EMPTY read-only", 1, nullptr, nullptr, 20e6, 40e6, false},
    {"allocated bytes a key at 1M keys", "memory at 1M keys, allocated", 1, nullptr, nullptr, 700, 400, true},
    {"get at 1M keys / at 10k keys", "get at 1M keys", 1, "get at 10k keys", "khonsu", 3, 0, true},
    {"aborts per commit, A, 2 threads / rocksdb (backward validation)", "A aborts", 2, nullptr, "rocksdb", 1.0, 0.5,
     true},
};

class Report {
 public:
  Report(const ReportHeader &header, const std::vector<Measurement> &measurements)
      : header_(header), measurements_(measurements) {}

  std::string markdown() const {
    std::ostringstream out;
    out << "# khonsu: benchmark report\n\n"
        << header_.date << ", " << processor() << ", " << std::thread::hardware_concurrency() << " hardware threads, "
        << system() << ", compiler " << __VERSION__ << ".\n\n`" << header_.command << "`\n\n"
        << header_.keys << " keys `user%012d`, zipf theta 0.99. khonsu: its C ABI, Arrow in and out, one row of two "
        << "int64 and two float64, a schema handle; SCAN by khonsu_txn_scan_stream, which joins the rows to one batch.\n"
        << "Peers: their own values of 100 bytes, on a RAM disk without sync.\n"
        << "Medians of " << header_.rounds << " interleaved rounds of " << header_.seconds
        << " s (three at most for memory and growth), in brackets the least and the greatest. Ratios are medians of\n"
        << "the ratios within a round. Each run of read-modify-writes is checked for lost updates.\n\n";
    for (const std::string &version : header_.versions) out << "- " << version << "\n";
    write_targets(out);
    out << "\n## Transactions per second\n\n";
    write_table(out, "transactions/s", true);
    out << "\n## Aborted attempts per commit\n\n";
    write_table(out, "aborts/commit", false);
    out << "\n## Time of one call, memory of one key\n\n";
    write_table(out, "ns", true);
    out << "\n";
    write_table(out, "bytes/key", true);
    return out.str();
  }

  std::string json() const {
    std::ostringstream out;
    out.precision(10);
    out << "[";
    const char *separator = "\n";
    for (const Measurement &m : measurements_) {
      out << separator << R"(  {"workload": ")" << m.workload << R"(", "threads": )" << m.threads << R"(, "peer": ")"
          << m.peer << R"(", "value": )" << m.median() << R"(, "min": )" << m.minimum() << R"(, "max": )" << m.maximum()
          << R"(, "unit": ")" << m.unit << "\"}";
      separator = ",\n";
    }
    out << "\n]\n";
    return out.str();
  }

 private:
  const Measurement *find(const std::string &workload, unsigned threads, const std::string &peer) const {
    for (const Measurement &m : measurements_) {
      if (m.workload == workload && m.threads == threads && m.peer == peer) return &m;
    }
    return nullptr;
  }

  static double ratio(const Measurement &above, const Measurement &below) {
    std::vector<double> ratios;
    for (std::size_t i = 0; i < std::min(above.samples.size(), below.samples.size()); ++i) {
      if (below.samples[i] != 0) ratios.push_back(above.samples[i] / below.samples[i]);
    }
    return ratios.empty() ? std::numeric_limits<double>::quiet_NaN() : median_of(ratios);
  }

  static std::string number(double value) {
    char text[32];
    if (value >= 1e6) {
      std::snprintf(text, sizeof(text), "%.2fM", value / 1e6);
    } else if (value >= 1e4) {
      std::snprintf(text, sizeof(text), "%.0fk", value / 1e3);
    } else if (value >= 100) {
      std::snprintf(text, sizeof(text), "%.0f", value);
    } else {
      std::snprintf(text, sizeof(text), "%.3g", value);
    }
    return text;
  }

  static std::string verdict(const Target &target, double value) {
    if (std::isnan(value)) return "no value";
    const auto reaches = [&](double goal) { return target.less_is_better ? value <= goal : value >= goal; };
    const double half = target.less_is_better ? target.first * 2 : target.first / 2;
    if (target.then != 0 && reaches(target.then)) return "**then**";
    if (target.first != 0 && reaches(target.first)) return "**first**";
    if (target.first != 0 && reaches(half)) return "half of first";
    return target.first != 0 ? "less than half of first" : "not yet";
  }

  void write_targets(std::ostream &out) const {
    out << "\n## Goals\n\n| goal | khonsu | first | then | reached |\n|---|---:|---:|---:|---|\n";
    for (const Target &target : kTargets) {
      const Measurement *own = find(target.workload, target.threads, "khonsu");
      if (own == nullptr) continue;
      double value = own->median();
      if (target.against_peer != nullptr) {
        const char *workload = target.against_workload != nullptr ? target.against_workload : target.workload;
        const Measurement *other = find(workload, target.threads, target.against_peer);
        if (other == nullptr) other = find(workload, 1, target.against_peer);
        if (other == nullptr) continue;
        value = ratio(*own, *other);
      }
      const auto goal = [](double wanted) { return wanted != 0 ? number(wanted) : std::string("-"); };
      out << "| " << target.goal << " | " << number(value) << " | " << goal(target.first) << " | " << goal(target.then)
          << " | " << verdict(target, value) << " |\n";
    }
    write_scaling(out);
  }

  void write_scaling(std::ostream &out) const {
    const Measurement *one = find("RMW10 disjoint", 1, "khonsu");
    const Measurement *most = nullptr;
    for (const Measurement &m : measurements_) {
      if (m.workload == "RMW10 disjoint" && m.peer == "khonsu" && m.threads > 1) most = &m;
    }
    if (one == nullptr || most == nullptr) return;
    out << "| disjoint keys, 1 -> " << most->threads << " threads (goal is for 16) | " << number(ratio(*most, *one))
        << " | 8 | 12 | " << (most->threads < 16 ? "too few cores to tell" : ratio(*most, *one) >= 12 ? "**then**"
                                                                         : ratio(*most, *one) >= 8    ? "**first**"
                                                                                                      : "not yet")
        << " |\n";
  }

  /// One line a workload and thread count, one column a peer.
  void write_table(std::ostream &out, const std::string &unit, bool with_ratios) const {
    out << "| " << unit << " | threads |";
    for (const char *peer : kPeers) out << " " << peer << " |";
    if (with_ratios) out << " khonsu / map | / lmdb | / rocksdb |";
    out << "\n|---|---:|" << (with_ratios ? "---:|---:|---:|---:|---:|---:|---:|" : "---:|---:|---:|---:|") << "\n";
    std::vector<std::pair<std::string, unsigned>> written;
    for (const Measurement &m : measurements_) {
      if (m.unit != unit) continue;
      const auto line = std::make_pair(m.workload, m.threads);
      if (std::find(written.begin(), written.end(), line) != written.end()) continue;
      written.push_back(line);
      if (find(m.workload, m.threads, "khonsu") == nullptr) {
        out << "| " << m.workload << " (" << m.peer << ") | " << m.threads << " | " << cell(m) << " | | | |"
            << (with_ratios ? " | | |" : "") << "\n";
        continue;
      }
      out << "| " << m.workload << " | " << m.threads << " |";
      for (const char *peer : kPeers) {
        const Measurement *found = find(m.workload, m.threads, peer);
        out << " " << (found != nullptr ? cell(*found) : "-") << " |";
      }
      for (std::size_t peer = 1; with_ratios && peer < std::size(kPeers); ++peer) {
        const Measurement *own = find(m.workload, m.threads, kPeers[0]);
        const Measurement *other = find(m.workload, m.threads, kPeers[peer]);
        const double value = other != nullptr ? ratio(*own, *other) : std::numeric_limits<double>::quiet_NaN();
        out << " " << (std::isnan(value) ? "-" : number(value)) << " |";
      }
      out << "\n";
    }
  }

  static std::string cell(const Measurement &m) {
    return number(m.median()) + " (" + number(m.minimum()) + " - " + number(m.maximum()) + ")";
  }

  static std::string processor() {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);) {
      if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
    }
    return "unknown processor";
  }

  /// Kernel and architecture; the name of the host stays out of the report.
  static std::string system() {
    utsname names{};
    uname(&names);
    return std::string(names.sysname) + " " + names.machine;
  }

  const ReportHeader &header_;
  const std::vector<Measurement> &measurements_;
};

void write_file(const std::filesystem::path &path, const std::string &text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (!file) fail(path.string() + " cannot be written");
}

}  // namespace

double Measurement::median() const { return median_of(samples); }
double Measurement::minimum() const { return *std::min_element(samples.begin(), samples.end()); }
double Measurement::maximum() const { return *std::max_element(samples.begin(), samples.end()); }

void write_reports(const std::string &directory, const ReportHeader &header,
                   const std::vector<Measurement> &measurements) {
  std::filesystem::create_directories(directory);
  const Report report(header, measurements);
  write_file(std::filesystem::path(directory) / "report.md", report.markdown());
  write_file(std::filesystem::path(directory) / "report.json", report.json());
}

}  // namespace bench
