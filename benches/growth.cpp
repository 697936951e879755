// How the cost of khonsu's calls grows: with keys, operations, old snapshots, and rows.
#include <optional>
#include <random>

#include "khonsu_calls.hpp"
#include "runner.hpp"
#include "sections.hpp"

namespace bench {
namespace {

struct Cell {
  std::uint64_t keys;
  std::size_t operations;
  unsigned snapshots;
  std::int64_t rows;
};

/// A transaction that reads and writes each of `operations` keys: how long its parts took.
struct Costs {
  double get = 0;     // ns of one
  double put = 0;     // ns of one
  double commit = 0;  // ns of begin and commit
};

class Growing {
 public:
  Growing(std::uint64_t keys, std::int64_t rows) : keys_(keys), rows_(rows) {
    for (std::uint64_t first = 0; first < keys; first += kLoadTogether) {
      KhonsuTransaction transaction = database_.begin(false);
      for (std::uint64_t id = first; id < std::min(first + kLoadTogether, keys); ++id) put(transaction, id);
      transaction.commit();
    }
  }

  /// So many read-only transactions stay open, a tenth of the keys (10,000 at most) written after each.
  void hold_snapshots(std::size_t count) {
    while (snapshots_.size() < count) {
      snapshots_.push_back(database_.begin(true));
      for (std::uint64_t i = 0; i < std::min<std::uint64_t>(keys_ / 10, 10'000); ++i) {
        KhonsuTransaction transaction = database_.begin(false);
        put(transaction, random_() % keys_);
        transaction.commit();
      }
    }
  }

  Costs measure(std::size_t operations, double seconds, double clock) {
    const auto limit = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
    struct Spent {
      Clock::duration get, put, end, all;
    };
    std::vector<Spent> transactions;
    std::vector<std::uint64_t> ids(operations);
    for (const Clock::time_point start = Clock::now(); Clock::now() - start < limit;) {
      for (std::uint64_t &id : ids) id = random_() % keys_;
      const auto before = Clock::now();
      std::optional<KhonsuTransaction> transaction = database_.begin(false);
      const auto begun = Clock::now();
      for (const std::uint64_t id : ids) sink_ = transaction->get(make_key(id)).sum();
      const auto got = Clock::now();
      for (const std::uint64_t id : ids) put(*transaction, id);
      const auto staged = Clock::now();
      if (!transaction->commit()) fail("a transaction alone was aborted");
      transaction.reset();
      const auto ended = Clock::now();
      transactions.push_back({got - begun, staged - got, (begun - before) + (ended - staged), ended - before});
    }
    // In the longest ones others had the processor. khonsu's own work that falls on some commits takes less than that.
    std::sort(transactions.begin(), transactions.end(), [](const Spent &a, const Spent &b) { return a.all < b.all; });
    const Clock::duration longest = 20 * transactions[transactions.size() / 2].all;
    Spent sum{};
    double counted = 0;
    for (const Spent &spent : transactions) {
      if (spent.all > longest) break;
      sum.get += spent.get;
      sum.put += spent.put;
      sum.end += spent.end;
      ++counted;
    }
    const auto each = [&](Clock::duration time, double clocks) { return nanoseconds(time) / counted - clocks * clock; };
    const auto count = static_cast<double>(operations);
    return {each(sum.get, 1) / count, each(sum.put, 1) / count, each(sum.end, 2)};
  }

 private:
  void put(KhonsuTransaction &transaction, std::uint64_t id) {
    transaction.put(make_key(id), make_row(static_cast<std::int64_t>(id), 0), rows_);
  }

  KhonsuDatabase database_;
  std::vector<KhonsuTransaction> snapshots_;
  std::uint64_t keys_;
  std::int64_t rows_;
  std::mt19937_64 random_{3};
  volatile double sink_ = 0;
};

std::string name_of(const Cell &cell) {
  return "growth: " + std::to_string(cell.keys) + " keys, " + std::to_string(cell.operations) + " operations, " +
         std::to_string(cell.snapshots) + " snapshots, " + std::to_string(cell.rows) + " rows: ";
}

}  // namespace

void measure_growth(const Options &options, Samples &samples) {
  // Databases of the same keys and rows stand together, fewer snapshots first.
  std::vector<Cell> cells;
  for (const std::uint64_t keys : {10'000, 100'000, 1'000'000}) {
    for (const unsigned snapshots : {0, 1, 10}) {
      for (const std::size_t operations : {1, 10, 100}) cells.push_back({keys, operations, snapshots, 1});
    }
  }
  // Few keys, so that those of 4,096 rows fit; all three alike.
  for (const std::int64_t rows : {1, 64, 4096}) cells.push_back({1'000, 10, 0, rows});

  for (unsigned round = 0; round < std::min(options.rounds, 3U); ++round) {
    const std::vector<double> values = in_child([&] {
      std::unique_ptr<Growing> database;
      const double clock = time_calls(0.05, 1000, [] {
        for (int i = 0; i < 1000; ++i) static_cast<void>(Clock::now());
      });
      std::vector<double> all;
      const Cell *last = nullptr;
      for (const Cell &cell : cells) {
        if (last == nullptr || last->keys != cell.keys || last->rows != cell.rows) {
          database.reset();
          database = std::make_unique<Growing>(cell.keys, cell.rows);
        }
        last = &cell;
        database->hold_snapshots(cell.snapshots);
        const Costs costs = database->measure(cell.operations, options.seconds, clock);
        all.insert(all.end(), {costs.get, costs.put, costs.commit});
      }
      return all;
    });
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const std::string name = name_of(cells[i]);
      samples.add(name + "get", 1, "khonsu", values[3 * i], "ns");
      samples.add(name + "put", 1, "khonsu", values[3 * i + 1], "ns");
      samples.add(name + "begin and commit", 1, "khonsu", values[3 * i + 2], "ns");
    }
  }
}

}  // namespace bench
