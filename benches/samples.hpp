// What was measured, round by round, and how it is handed to benches/report.
#ifndef KHONSU_BENCHES_SAMPLES_HPP
#define KHONSU_BENCHES_SAMPLES_HPP

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

namespace bench {

struct Measurement {
  std::string workload;
  unsigned threads;
  std::string peer;
  std::string unit;
  std::vector<double> samples;  // one a round
};

class Samples {
 public:
  void add(const std::string &workload, unsigned threads, const std::string &peer, double value,
           const std::string &unit) {
    for (Measurement &measurement : measurements_) {
      if (measurement.workload == workload && measurement.threads == threads && measurement.peer == peer) {
        measurement.samples.push_back(value);
        return;
      }
    }
    measurements_.push_back({workload, threads, peer, unit, {value}});
  }

  /// What is compared, with its settings.
  void describe(const std::string &peer, const std::string &description) { peers_.emplace_back(peer, description); }

  /// Facts of the run: "command", "seconds", ...
  void note(const std::string &name, const std::string &text) { notes_.emplace_back(name, text); }

  /// False if the file could not be written.
  [[nodiscard]] bool write(const std::string &path) const {
    std::ofstream out(path, std::ios::binary | std::ios::trunc);
    out.precision(10);
    out << "{\n\"notes\": {";
    write_pairs(out, notes_);
    out << "},\n\"peers\": {";
    write_pairs(out, peers_);
    out << "},\n\"measurements\": [";
    const char *separator = "\n";
    for (const Measurement &m : measurements_) {
      out << separator << "{\"workload\": " << quoted(m.workload) << ", \"threads\": " << m.threads
          << ", \"peer\": " << quoted(m.peer) << ", \"unit\": " << quoted(m.unit) << ", \"samples\": [";
      for (std::size_t i = 0; i < m.samples.size(); ++i) out << (i == 0 ? "" : ", ") << m.samples[i];
      out << "]}";
      separator = ",\n";
    }
    out << "\n]\n}\n";
    out.close();
    return static_cast<bool>(out);
  }

 private:
  using Pairs = std::vector<std::pair<std::string, std::string>>;

  static void write_pairs(std::ostream &out, const Pairs &pairs) {
    const char *separator = "\n";
    for (const auto &[name, text] : pairs) {
      out << separator << quoted(name) << ": " << quoted(text);
      separator = ",\n";
    }
  }

  static std::string quoted(const std::string &text) {
    std::string out = "\"";
    for (const char c : text) {
      if (c == '"' || c == '\\') out += '\\';
      out += c;
    }
    return out + "\"";
  }

  std::vector<Measurement> measurements_;
  Pairs peers_;
  Pairs notes_;
};

}  // namespace bench

#endif
