// Takes down 200,000 flights in a database on disk, with four threads. Stop it whenever you like, by Ctrl-C, by kill -9
// or by the mains switch: started again it goes on where it was, and has lost nothing.
//
//   logbook INPUT.arrow DIRECTORY
//
// Three kinds of keys:
//   hour/HH     the flights of that hour
//   total/HH    one row: how many flights that are, and the sums of their delays and distances
//   writer/N    one row: how many batches writer N has taken down
//
// A writer takes every fourth batch of the input. The rows, the totals and its own place in the input change in one
// transaction. So whatever is there when the program starts, it is as if it had stopped between two batches.
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
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
constexpr std::size_t kWriters = 4;
constexpr std::size_t kBatchRows = 10;

/// What adds up: the same for the same flights in any order.
struct Total {
  std::int64_t flights = 0;
  std::int64_t delay = 0;
  std::int64_t distance = 0;

  void add(const Flight &flight) { add(Total{1, flight.delay, flight.distance}); }
  void add(const Total &other) {
    flights += other.flights;
    delay += other.delay;
    distance += other.distance;
  }
  bool operator==(const Total &other) const {
    return flights == other.flights && delay == other.delay && distance == other.distance;
  }
};

std::string numbered(const char *prefix, std::size_t number) {
  const std::string digits = std::to_string(number);
  return prefix + std::string(digits.size() < 2 ? 1 : 0, '0') + digits;
}

class Logbook {
 public:
  Logbook(const std::string &directory, khonsu::ArrowSchema flight_schema)
      : db_(khonsu::Database::open(khonsu::Options().path(directory)).value_or_throw()),
        flight_schema_(khonsu::Schema::from_arrow(std::move(flight_schema)).value_or_throw()),
        total_schema_(
            khonsu::Schema::from_arrow(arrow_batch::int64_schema({"flights", "delay", "distance"})).value_or_throw()),
        place_schema_(khonsu::Schema::from_arrow(arrow_batch::int64_schema({"batches"})).value_or_throw()) {}

  /// The batches that a writer has taken down.
  std::size_t place(std::size_t writer) const {
    khonsu::Transaction txn = db_.begin().value_or_throw();
    return get_place(txn, writer);
  }

  /// Takes down one batch, and that it has been. When this returns, it is on the disk.
  void take_down(std::size_t writer, const Flight *flights, std::size_t count) {
    std::array<Flights, kHours> by_hour;
    for (std::size_t i = 0; i < count; ++i) by_hour[static_cast<int>(flights[i].time) % kHours].push_back(flights[i]);
    db_.transact([&](khonsu::Transaction &txn) {
         for (std::size_t hour = 0; hour < kHours; ++hour) {
           if (by_hour[hour].empty()) continue;
           txn.append(numbered("hour/", hour), to_arrow(by_hour[hour]), flight_schema_).value_or_throw();
           Total total = get_total(txn, hour);
           for (const Flight &flight : by_hour[hour]) total.add(flight);
           put_total(txn, hour, total);
         }
         put_place(txn, writer, get_place(txn, writer) + 1);
       }).value_or_throw();
  }

  /// The totals of all hours, each compared with the rows of its hour.
  Total checked_total() const {
    khonsu::Transaction txn = db_.begin().value_or_throw();
    Total all;
    for (std::size_t hour = 0; hour < kHours; ++hour) {
      Total counted;
      if (const auto rows = txn.get(numbered("hour/", hour), flight_schema_).value_or_throw()) {
        for_each_flight(*rows, [&](const Flight &flight) { counted.add(flight); });
      }
      if (!(counted == get_total(txn, hour))) throw std::runtime_error("an hour's total does not fit its flights");
      all.add(counted);
    }
    return all;
  }

 private:
  using Column = std::vector<std::int64_t>;

  static std::int64_t number(const khonsu::ArrowArray &row, std::size_t column) {
    return *arrow_batch::values<std::int64_t>(row, column);
  }

  Total get_total(khonsu::Transaction &txn, std::size_t hour) const {
    const auto row = txn.get(numbered("total/", hour), total_schema_).value_or_throw();
    return row ? Total{number(*row, 0), number(*row, 1), number(*row, 2)} : Total{};
  }

  void put_total(khonsu::Transaction &txn, std::size_t hour, const Total &total) const {
    auto row = arrow_batch::batch(Column{total.flights}, Column{total.delay}, Column{total.distance});
    txn.put(numbered("total/", hour), std::move(row), total_schema_).value_or_throw();
  }

  std::size_t get_place(khonsu::Transaction &txn, std::size_t writer) const {
    const auto row = txn.get(numbered("writer/", writer), place_schema_).value_or_throw();
    return row ? static_cast<std::size_t>(number(*row, 0)) : 0;
  }

  void put_place(khonsu::Transaction &txn, std::size_t writer, std::size_t batches) const {
    auto row = arrow_batch::batch(Column{static_cast<std::int64_t>(batches)});
    txn.put(numbered("writer/", writer), std::move(row), place_schema_).value_or_throw();
  }

  khonsu::Database db_;
  khonsu::Schema flight_schema_;
  khonsu::Schema total_schema_;
  khonsu::Schema place_schema_;
};

/// The rows of a batch of a writer.
std::pair<std::size_t, std::size_t> rows_of(std::size_t writer, std::size_t batch, std::size_t rows) {
  const std::size_t first = std::min((batch * kWriters + writer) * kBatchRows, rows);
  return {first, std::min(kBatchRows, rows - first)};
}

int run(const std::string &input_path, const std::string &directory) {
  khonsu::ArrowArrayStream stream = khonsu::ipc_open_stream(input_path).value_or_throw();
  khonsu::ArrowSchema schema = stream.schema().value_or_throw();
  Flights input;
  while (const auto batch = stream.next().value_or_throw()) {
    for_each_flight(*batch, [&](const Flight &flight) { input.push_back(flight); });
  }

  const auto opening = std::chrono::steady_clock::now();
  Logbook logbook(directory, std::move(schema));
  const std::chrono::duration<double, std::milli> opened = std::chrono::steady_clock::now() - opening;
  std::array<std::size_t, kWriters> places{};
  Total expected;
  for (std::size_t writer = 0; writer < kWriters; ++writer) {
    places[writer] = logbook.place(writer);
    for (std::size_t batch = 0; batch < places[writer]; ++batch) {
      const auto [first, count] = rows_of(writer, batch, input.size());
      for (std::size_t i = first; i < first + count; ++i) expected.add(input[i]);
    }
  }
  if (!(logbook.checked_total() == expected)) throw std::runtime_error("the logbook is not what was taken down");
  std::printf("opened %s in %.0f ms: %lld of %zu flights are there, and their sums are right\n", directory.c_str(),
              opened.count(), static_cast<long long>(expected.flights), input.size());
  std::fflush(stdout);

  std::atomic<std::size_t> taken_down{0};
  const auto write = [&](std::size_t writer) {
    for (std::size_t batch = places[writer];; ++batch) {
      const auto [first, count] = rows_of(writer, batch, input.size());
      if (count == 0) return;
      logbook.take_down(writer, &input[first], count);
      taken_down += count;
    }
  };
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::future<void>> writing;
  for (std::size_t writer = 0; writer < kWriters; ++writer) {
    writing.push_back(std::async(std::launch::async, [&write, writer] { write(writer); }));
  }
  for (std::future<void> &writer : writing) {
    while (writer.wait_for(std::chrono::milliseconds(250)) != std::future_status::ready) {
      std::printf("  %lld flights on the disk; stop me when you like\n",
                  static_cast<long long>(expected.flights) + static_cast<long long>(taken_down));
      std::fflush(stdout);
    }
  }
  for (std::future<void> &writer : writing) writer.get();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;

  Total all;
  for (const Flight &flight : input) all.add(flight);
  if (!(logbook.checked_total() == all)) throw std::runtime_error("the logbook is not the input");
  std::printf("all %zu flights are taken down, none twice; %zu of them now, in %.1f s\n", input.size(),
              taken_down.load(), seconds.count());
  return 0;
}

}  // namespace

int main(int argc, char **argv) {
  if (argc != 3) {
    std::cerr << "usage: logbook INPUT.arrow DIRECTORY\n";
    return 2;
  }
  try {
    return run(argv[1], argv[2]);
  } catch (const std::exception &failure) {
    std::cerr << "logbook: " << failure.what() << "\n";
    return 1;
  }
}
