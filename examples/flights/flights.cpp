// Files 200,000 flights by hour of the day, with many threads at once, and never shows a total that is wrong.
//
//   flights INPUT.arrow OUTPUT.arrow [--threads N]
//
// Two kinds of keys:
//   hour/HH    the flights of that hour: delay, distance, time
//   total/HH   one row: how many flights that are and the sums of their delays and distances
//
// N writers take small batches from the input, append each to its hour and bring the totals up to date in the same
// transaction. The feed has a fault: now and then a batch is filed one hour late. Writers look for such flights and
// move them to their own hour: one transaction that reads, shrinks and grows several keys. Meanwhile N / 2 readers
// add up all hours again and again; what they count must always agree with the totals, whatever is being moved.
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <future>
#include <iostream>
#include <khonsu.hpp>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "../flight.hpp"

namespace {

constexpr int kHours = 24;
constexpr std::size_t kBatchRows = 1;      // each flight as it departs; more rows a batch go in much faster
constexpr std::size_t kFaultEvery = 7;     // each 7th batch is filed one hour late
constexpr std::size_t kCorrectEvery = 16;  // batches of one writer between two corrections
constexpr auto kReaderPause = std::chrono::milliseconds(1);

using Clock = std::chrono::steady_clock;

std::string hour_key(const char *prefix, int hour) {
  const std::string digits = std::to_string(hour);
  return prefix + std::string(2 - digits.size(), '0') + digits;
}

// ---- totals ----

struct Total {
  std::int64_t flights = 0;
  std::int64_t delay = 0;
  std::int64_t distance = 0;

  void add(const Flight &flight, int sign = 1) {
    flights += sign;
    delay += sign * flight.delay;
    distance += sign * flight.distance;
  }
  bool operator==(const Total &other) const {
    return flights == other.flights && delay == other.delay && distance == other.distance;
  }
};

/// The code below reads three columns by position, so it had better be those.
void require_flights(const khonsu::ArrowSchema &schema) {
  static const char *const kColumns[][2] = {{"delay", "s"}, {"distance", "s"}, {"time", "f"}};
  bool expected = schema->n_children == 3;
  for (int i = 0; expected && i < 3; ++i) {
    expected = std::strcmp(schema->children[i]->name, kColumns[i][0]) == 0 &&
               std::strcmp(schema->children[i]->format, kColumns[i][1]) == 0;
  }
  if (!expected) throw std::runtime_error("the input does not have the columns delay, distance and time");
}

// ---- the database ----

class FlightStore {
 public:
  explicit FlightStore(khonsu::ArrowSchema flight_schema)
      : db_(khonsu::Database::open().value_or_throw()),
        flight_schema_(khonsu::Schema::from_arrow(std::move(flight_schema)).value_or_throw()),
        total_schema_(
            khonsu::Schema::from_arrow(arrow_batch::int64_schema({"flights", "delay", "distance"})).value_or_throw()) {
    read_only_.read_only();
  }

  /// Files a batch, `shift` hours late.
  void file(const Flight *flights, std::size_t count, int shift) {
    std::array<Flights, kHours> by_hour;
    for (std::size_t i = 0; i < count; ++i) by_hour[(flights[i].hour() + shift) % kHours].push_back(flights[i]);
    // On a conflict transact runs this again, on a newer snapshot.
    db_.transact([&](khonsu::Transaction &txn) {
         for (int hour = 0; hour < kHours; ++hour) append(txn, hour, by_hour[hour]);
       }).value_or_throw();
  }

  /// Moves the flights that are filed under a wrong hour to their own, and says how many those were.
  std::size_t correct(int hour) {
    return db_
        .transact([&](khonsu::Transaction &txn) -> std::size_t {
          const auto filed = txn.get(hour_key("hour/", hour), flight_schema_).value_or_throw();
          if (!filed) return 0;
          std::array<Flights, kHours> by_hour;
          for_each_flight(*filed, [&](const Flight &flight) { by_hour[flight.hour()].push_back(flight); });
          const Flights right = std::exchange(by_hour[hour], {});
          const std::size_t wrong = static_cast<std::size_t>((*filed)->length) - right.size();
          if (wrong == 0) return 0;
          txn.put(hour_key("hour/", hour), to_arrow(right), flight_schema_).value_or_throw();
          put_total(txn, hour, total_of(right));
          for (int other = 0; other < kHours; ++other) append(txn, other, by_hour[other]);
          return wrong;
        })
        .value_or_throw();
  }

  /// Counts all flights in one snapshot and compares them with the totals of that snapshot. A read-only transaction
  /// never conflicts and holds nobody up.
  bool totals_agree(std::int64_t *flights) const {
    khonsu::Transaction txn = db_.begin(read_only_).value_or_throw();
    bool agree = true;
    *flights = 0;
    for (int hour = 0; hour < kHours; ++hour) {
      Total counted;
      // The rows as they were appended, chunk by chunk: a get would first make one batch of them.
      auto chunks = txn.get_stream(hour_key("hour/", hour)).value_or_throw();
      while (chunks) {
        const auto chunk = chunks->next().value_or_throw();
        if (!chunk) break;
        for_each_flight(*chunk, [&](const Flight &flight) { counted.add(flight); });
      }
      agree = agree && counted == get_total(txn, hour);
      *flights += counted.flights;
    }
    txn.commit().value_or_throw();
    return agree;
  }

  /// Calls visit(hour, flight) for all flights and writes the same snapshot to an Arrow IPC file.
  template <typename Visit>
  void finish(const std::string &path, Visit visit) const {
    khonsu::Transaction txn = db_.begin(read_only_).value_or_throw();
    khonsu::Cursor cursor = txn.scan_prefix("hour/").value_or_throw();
    while (cursor.next().value_or_throw()) {
      const int hour = std::stoi(std::string(cursor.key().value_or_throw().substr(std::strlen("hour/"))));
      const khonsu::ArrowArray flights = cursor.array().value_or_throw();
      for_each_flight(flights, [&](const Flight &flight) { visit(hour, flight); });
    }
    // "hour0" is the first key after all that begin with "hour/".
    khonsu::ArrowArrayStream table = txn.scan_stream({"hour/", "hour0"}).value_or_throw();
    khonsu::ipc_write_stream(path, std::move(table)).value_or_throw();
  }

  khonsu::Stats stats() const { return db_.stats().value_or_throw(); }

 private:
  /// Adds flights to an hour and to its total.
  void append(khonsu::Transaction &txn, int hour, const Flights &flights) const {
    if (flights.empty()) return;
    txn.append(hour_key("hour/", hour), to_arrow(flights), flight_schema_).value_or_throw();
    Total total = get_total(txn, hour);
    for (const Flight &flight : flights) total.add(flight);
    put_total(txn, hour, total);
  }

  Total get_total(khonsu::Transaction &txn, int hour) const {
    const auto row = txn.get(hour_key("total/", hour), total_schema_).value_or_throw();
    if (!row) return {};
    const auto value = [&row](std::size_t column) { return *arrow_batch::values<std::int64_t>(*row, column); };
    return {value(0), value(1), value(2)};
  }

  void put_total(khonsu::Transaction &txn, int hour, const Total &total) const {
    using Column = std::vector<std::int64_t>;
    txn.put(hour_key("total/", hour),
            arrow_batch::batch(Column{total.flights}, Column{total.delay}, Column{total.distance}), total_schema_)
        .value_or_throw();
  }

  static Total total_of(const Flights &flights) {
    Total total;
    for (const Flight &flight : flights) total.add(flight);
    return total;
  }

  khonsu::Database db_;
  khonsu::Schema flight_schema_;
  khonsu::Schema total_schema_;
  khonsu::TransactionOptions read_only_;
};

// ---- the threads ----

struct Shared {
  FlightStore &store;
  const Flights &input;
  std::atomic<std::size_t> next_batch{0};
  std::atomic<std::size_t> filed{0};
  std::atomic<std::size_t> moved{0};
  std::atomic<std::size_t> agreed{0};
  std::atomic<std::size_t> disagreed{0};
  std::atomic<bool> done{false};
};

void write_flights(Shared &shared) {
  std::size_t batches = 0;
  for (;;) {
    const std::size_t batch = shared.next_batch.fetch_add(1);
    const std::size_t first = batch * kBatchRows;
    if (first >= shared.input.size()) return;
    const std::size_t count = std::min(kBatchRows, shared.input.size() - first);
    shared.store.file(&shared.input[first], count, batch % kFaultEvery == 0 ? 1 : 0);
    shared.filed += count;
    if (++batches % kCorrectEvery == 0) {
      shared.moved += shared.store.correct((shared.input[first].hour() + 1) % kHours);
    }
  }
}

void read_totals(Shared &shared) {
  std::int64_t last = 0;
  do {
    std::int64_t flights = 0;
    const bool agree = shared.store.totals_agree(&flights);
    // Corrections move flights and never remove any, so a later snapshot cannot have fewer.
    ++(agree && flights >= last ? shared.agreed : shared.disagreed);
    last = flights;
    std::this_thread::sleep_for(kReaderPause);
  } while (!shared.done);
}

std::uint64_t conflicts_of(const khonsu::Stats &stats) {
  return stats.conflicts_write_write + stats.conflicts_read_write + stats.conflicts_phantom + stats.conflicts_prepared;
}

void show_progress(const Shared &shared, double seconds) {
  const khonsu::Stats stats = shared.store.stats();
  std::printf("%5.1f s  %6zu filed  %5zu moved  %6zu totals agreed  %7llu commits  %6llu conflicts  %6llu retries\n",
              seconds, shared.filed.load(), shared.moved.load(), shared.agreed.load(),
              static_cast<unsigned long long>(stats.commits), static_cast<unsigned long long>(conflicts_of(stats)),
              static_cast<unsigned long long>(stats.retries));
  std::fflush(stdout);
}

// ---- the program ----

int run(const std::string &input_path, const std::string &output_path, int writers) {
  khonsu::ArrowArrayStream stream = khonsu::ipc_open_stream(input_path).value_or_throw();
  khonsu::ArrowSchema schema = stream.schema().value_or_throw();
  require_flights(schema);
  Flights input;
  std::uint64_t input_hash = 0;
  while (const auto batch = stream.next().value_or_throw()) {
    for_each_flight(*batch, [&](const Flight &flight) {
      if (!(flight.time >= 0 && flight.time < kHours)) throw std::runtime_error("a flight's time is not of a day");
      input.push_back(flight);
      input_hash += flight.hash();
    });
  }

  FlightStore store(std::move(schema));
  Shared shared{store, input};
  const Clock::time_point start = Clock::now();
  const auto elapsed = [&start] { return std::chrono::duration<double>(Clock::now() - start).count(); };

  std::vector<std::future<void>> writing;
  std::vector<std::future<void>> reading;
  for (int i = 0; i < writers; ++i) writing.push_back(std::async(std::launch::async, [&] { write_flights(shared); }));
  for (int i = 0; i < std::max(1, writers / 2); ++i) {
    reading.push_back(std::async(std::launch::async, [&] { read_totals(shared); }));
  }
  for (std::future<void> &writer : writing) {
    while (writer.wait_for(std::chrono::milliseconds(500)) != std::future_status::ready) show_progress(shared, elapsed());
  }
  std::exception_ptr failure;
  try {
    for (std::future<void> &writer : writing) writer.get();
    // What was filed late and not met by a correction yet.
    for (int hour = 0; hour < kHours; ++hour) shared.moved += store.correct(hour);
  } catch (...) {
    failure = std::current_exception();  // the readers must be told to stop before this goes on
  }
  shared.done = true;
  for (std::future<void> &reader : reading) reader.get();
  if (failure) std::rethrow_exception(failure);
  const double seconds = elapsed();
  const khonsu::Stats stats = store.stats();
  show_progress(shared, seconds);

  std::array<Total, kHours> hours;
  std::uint64_t output_hash = 0;
  std::size_t rows = 0;
  std::int64_t misplaced = 0;
  store.finish(output_path, [&](int hour, const Flight &flight) {
    hours[hour].add(flight);
    output_hash += flight.hash();
    misplaced += flight.hour() != hour ? 1 : 0;
    ++rows;
  });

  std::size_t written = 0;
  khonsu::ArrowArrayStream table = khonsu::ipc_open_stream(output_path).value_or_throw();
  while (const auto batch = table.next().value_or_throw()) written += static_cast<std::size_t>((*batch)->length);

  std::printf("\nhour    flights  mean delay\n");
  for (int hour = 0; hour < kHours; ++hour) {
    const auto flights = static_cast<double>(hours[hour].flights);
    const double delay = flights > 0 ? static_cast<double>(hours[hour].delay) / flights : 0;
    std::printf("%02d    %9.0f  %6.1f min\n", hour, flights, delay);
  }
  std::printf("\n%d writers, %zu readers, %.1f s: %.0f transactions a second\n", writers, reading.size(), seconds,
              static_cast<double>(stats.commits) / seconds);
  std::printf("conflicts: %llu write-write, %llu read-write, %llu phantom, %llu prepared; %llu retries\n\n",
              static_cast<unsigned long long>(stats.conflicts_write_write),
              static_cast<unsigned long long>(stats.conflicts_read_write),
              static_cast<unsigned long long>(stats.conflicts_phantom),
              static_cast<unsigned long long>(stats.conflicts_prepared), static_cast<unsigned long long>(stats.retries));

  bool passed = true;
  const auto expect = [&passed](bool holds, const std::string &what) {
    std::printf("%s  %s\n", holds ? "ok  " : "FAIL", what.c_str());
    passed = passed && holds;
  };
  expect(rows == input.size() && output_hash == input_hash,
         "no flight was lost or doubled: " + std::to_string(rows) + " rows, and their checksum is the input's");
  expect(misplaced == 0, "each flight is under its own hour (" + std::to_string(shared.moved) + " were moved there)");
  expect(shared.agreed > 0 && shared.disagreed == 0,
         std::to_string(shared.agreed) + " consistent totals agreed with the rows of their snapshot, " +
             std::to_string(shared.disagreed) + " did not");
  expect(written == rows, output_path + " has " + std::to_string(written) + " rows");
  return passed ? 0 : 1;
}

}  // namespace

int main(int argc, char **argv) {
  std::vector<std::string> paths;
  int threads = 4;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--threads") == 0 && i + 1 < argc) {
      threads = std::atoi(argv[++i]);
    } else {
      paths.emplace_back(argv[i]);
    }
  }
  if (paths.size() != 2 || threads < 1) {
    std::cerr << "usage: flights INPUT.arrow OUTPUT.arrow [--threads N]\n";
    return 2;
  }
  try {
    return run(paths[0], paths[1], threads);
  } catch (const std::exception &failure) {
    std::cerr << "flights: " << failure.what() << "\n";
    return 2;
  }
}
