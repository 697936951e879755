// Threads that are stopped at random instants, wherever they are, by a signal whose handler does not return until it is
// told to. The others must go on meanwhile, on the same keys, and see nothing but what is consistent.
//
// freeze_test [FREEZES] [SECONDS]: ends after so many freezes or seconds, whichever is first.
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cinttypes>
#include <cstdlib>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "check.hpp"
#include "lockless_malloc.hpp"

#if !KHONSU_SANITIZED

namespace {

constexpr int kAccounts = 6;
constexpr std::int64_t kTotal = 1000 * kAccounts;
constexpr int kPlaces = 6;
constexpr int kTaken = 3;
constexpr int kWorkers = 4;
/// What each of the others does while some are stopped.
constexpr std::uint64_t kOperations = 8;
constexpr auto kHangsAfter = std::chrono::seconds(60);

/// What a thread was doing when it was stopped.
enum Step : int { kOutside, kBegin, kRead, kScan, kStage, kCommit, kEnd, kSteps };
constexpr std::array<const char *, kSteps> kStepNames{"outside", "begin", "read", "scan", "stage", "commit", "end"};

struct Worker {
  std::thread thread;
  std::atomic<std::uint64_t> done{0};
  /// The handler writes where the thread is to the one, and returns when it has read from the other.
  std::array<int, 2> stopped{};
  std::array<int, 2> go_on{};
};

// Set by the thread itself, read by the handler that runs on it.
thread_local Worker *worker_of_this_thread = nullptr;
thread_local volatile sig_atomic_t step_of_this_thread = kOutside;

/// Only calls that a signal handler may make.
void stop_here(int) {
  const int error = errno;
  char byte = static_cast<char>(step_of_this_thread);
  while (write(worker_of_this_thread->stopped[1], &byte, 1) != 1) {
  }
  while (read(worker_of_this_thread->go_on[0], &byte, 1) != 1) {
  }
  errno = error;
}

/// Notes what this thread does until the end of the scope.
class Doing {
 public:
  explicit Doing(Step step) { step_of_this_thread = step; }
  ~Doing() { step_of_this_thread = kOutside; }
  Doing(const Doing &) = delete;
  Doing &operator=(const Doing &) = delete;
};

/// Keys are made beforehand: making one would allocate.
struct Keys {
  std::vector<std::string> accounts, places, pair{"bank/pair/0", "bank/pair/1"};
  Keys() {
    for (int number = 0; number < kAccounts; ++number) accounts.push_back("bank/account/" + std::to_string(number));
    for (int number = 0; number < kPlaces; ++number) places.push_back("bank/place/" + std::to_string(number));
  }
};

struct Bank {
  khonsu::Database database = std::move(khonsu::Database::open()).value();
  khonsu::Schema schema = std::move(khonsu::Schema::from_arrow(batch_of({}).schema)).value();
  khonsu::TransactionOptions read_only;
  std::array<khonsu::TransactionOptions, 3> levels;
  Keys keys;
  std::atomic<bool> over{false};

  Bank() {
    read_only.read_only();
    levels[0].isolation(khonsu::Isolation::read_committed);
    levels[1].isolation(khonsu::Isolation::repeatable_read);
    levels[2].isolation(khonsu::Isolation::serializable);
    CHECK_OK(database.transact([&](khonsu::Transaction &transaction) {
      for (const std::string &key : keys.accounts) put(transaction, key, kTotal / kAccounts);
      for (const std::string &key : keys.pair) put(transaction, key, 0);
      for (int number = 0; number < kTaken; ++number) put(transaction, keys.places[number], 1);
    }));
  }

  khonsu::Transaction begin(const khonsu::TransactionOptions &options) const {
    Doing doing(kBegin);
    return std::move(database.begin(options)).value();
  }

  /// Minus one where there is none.
  std::int64_t get(khonsu::Transaction &transaction, const std::string &key) const {
    Doing doing(kRead);
    auto found = transaction.get(key, schema);
    if (!CHECK_OK(found) || !found.value().has_value()) return -1;
    return arrow_testing_int64_at(found.value()->get(), 0, 0);
  }

  void put(khonsu::Transaction &transaction, const std::string &key, std::int64_t value) const {
    Doing doing(kStage);
    CHECK_OK(transaction.put(key, std::move(batch_of({value}).array), schema));
  }

  /// Whether it was committed; otherwise it was a conflict.
  bool commit(khonsu::Transaction &transaction) const {
    Doing doing(kCommit);
    auto committed = transaction.commit();
    if (!committed.ok()) CHECK(committed.status() == khonsu::Status::conflict);
    return committed.ok();
  }

  void end(khonsu::Transaction transaction) const {
    Doing doing(kEnd);
    khonsu::Transaction ended = std::move(transaction);
  }

  bool transfer(std::mt19937 &random) const {
    const std::size_t from = random() % kAccounts;
    const std::size_t to = (from + 1 + random() % (kAccounts - 1)) % kAccounts;
    const std::int64_t amount = static_cast<std::int64_t>(random() % 100) + 1;
    khonsu::Transaction transaction = begin(levels[random() % levels.size()]);
    const std::int64_t next = get(transaction, keys.pair[0]) + 1;
    const std::int64_t source = get(transaction, keys.accounts[from]);
    const std::int64_t target = get(transaction, keys.accounts[to]);
    // Some to be certified: one that is only read, and one that is absent.
    get(transaction, keys.accounts[(to + 1) % kAccounts]);
    CHECK(get(transaction, "bank/none") == -1);
    put(transaction, keys.accounts[from], source - amount);
    put(transaction, keys.accounts[to], target + amount);
    for (const std::string &key : keys.pair) put(transaction, key, next);
    const bool committed = commit(transaction);
    end(std::move(transaction));
    return committed;
  }

  /// Deletes a key, and brings another back.
  bool move(std::mt19937 &random) const {
    khonsu::Transaction transaction = begin(levels[random() % levels.size()]);
    const std::string *taken = nullptr;
    const std::string *free = nullptr;
    const std::size_t first = random() % kPlaces;
    for (std::size_t number = first; number < first + kPlaces; ++number) {
      const std::string &key = keys.places[number % kPlaces];
      (get(transaction, key) == -1 ? free : taken) = &key;
    }
    // At read committed each was read at a time of its own, so they may all seem taken, or free.
    if (taken != nullptr && free != nullptr) {
      CHECK_OK(transaction.remove(*taken));
      put(transaction, *free, 1);
    }
    const bool committed = commit(transaction);
    end(std::move(transaction));
    return committed;
  }

  /// Sees one state of everything, by one scan.
  void scan(std::mt19937 &random) const {
    khonsu::Transaction transaction = begin(read_only);
    std::int64_t total = 0, places = 0, first_half = -1, second_half = -2;
    {
      Doing doing(kScan);
      const auto direction = random() % 2 == 0 ? khonsu::Direction::forward : khonsu::Direction::reverse;
      khonsu::Cursor cursor = std::move(transaction.scan_prefix("bank/", direction)).value();
      while (cursor.next().value()) {
        const std::string_view key = cursor.key().value();
        const khonsu::ArrowArray array = std::move(cursor.array()).value();
        const std::int64_t value = arrow_testing_int64_at(array.get(), 0, 0);
        if (key == keys.pair[0]) {
          first_half = value;
        } else if (key == keys.pair[1]) {
          second_half = value;
        } else if (key.substr(0, 11) == "bank/place/") {
          ++places;
        } else {
          total += value;
        }
      }
    }
    CHECK(total == kTotal && places == kTaken && first_half == second_half);
    CHECK(commit(transaction));
    end(std::move(transaction));
  }

  /// Sees one state of the accounts, by one read after the other.
  void gets() const {
    khonsu::Transaction transaction = begin(read_only);
    std::int64_t total = 0;
    for (const std::string &key : keys.accounts) total += get(transaction, key);
    CHECK(total == kTotal && get(transaction, keys.pair[0]) == get(transaction, keys.pair[1]));
    CHECK(commit(transaction));
    end(std::move(transaction));
  }

  void work(Worker &worker, unsigned seed) const {
    worker_of_this_thread = &worker;
    std::mt19937 random(seed);
    // One call in an ordinary place first: what is bound or made on first use must not be in the way later.
    const std::uint64_t before = lockless_malloc_calls();
    gets();
    CHECK(lockless_malloc_calls() > before);
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGUSR1);
    pthread_sigmask(SIG_UNBLOCK, &stop, nullptr);
    while (!over) {
      switch (random() % 6) {
        case 0: scan(random); break;
        case 1: gets(); break;
        case 2:
          while (!move(random)) {
          }
          break;
        default:
          while (!transfer(random)) {
          }
      }
      ++worker.done;
    }
    pthread_sigmask(SIG_BLOCK, &stop, nullptr);
  }
};

/// Waits until a worker has done so many operations. There is no way on from a hang: the frozen cannot be joined.
void wait_for(const Worker &worker, std::uint64_t done, const char *where) {
  const auto begun = std::chrono::steady_clock::now();
  while (worker.done < done) {
    if (std::chrono::steady_clock::now() - begun > kHangsAfter) {
      std::fprintf(stderr, "freeze_test: no progress beside a thread stopped in: %s\n", where);
      _exit(1);
    }
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
}

void freezes(int most_freezes, std::chrono::seconds most_time) {
  Bank bank;
  std::array<Worker, kWorkers> workers;
  // Workers inherit the mask, and let the signal in when they are ready for it.
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &stop, nullptr);
  struct sigaction action {};
  action.sa_handler = stop_here;
  action.sa_flags = SA_RESTART;
  sigaction(SIGUSR1, &action, nullptr);
  unsigned seed = 0;
  for (Worker &worker : workers) {
    CHECK(pipe(worker.stopped.data()) == 0 && pipe(worker.go_on.data()) == 0);
    worker.thread = std::thread([&bank, &worker, number = ++seed] { bank.work(worker, number); });
  }

  std::mt19937 random(1);
  std::array<int, kSteps> where{};
  int freezes = 0;
  const auto begun = std::chrono::steady_clock::now();
  while (freezes < most_freezes && std::chrono::steady_clock::now() - begun < most_time) {
    // One, or two at once.
    const std::size_t first = random() % kWorkers;
    const std::size_t count = 1 + random() % 2;
    const auto is_frozen = [&](std::size_t number) { return (number + kWorkers - first) % kWorkers < count; };
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 500));
    std::string places;
    for (std::size_t number = 0; number < kWorkers; ++number) {
      if (!is_frozen(number)) continue;
      CHECK(pthread_kill(workers[number].thread.native_handle(), SIGUSR1) == 0);
      char step = 0;
      while (read(workers[number].stopped[0], &step, 1) != 1) {
      }
      ++where[static_cast<std::size_t>(step)];
      ++freezes;
      (places += places.empty() ? "" : " and ") += kStepNames[static_cast<std::size_t>(step)];
    }
    std::array<std::uint64_t, kWorkers> goals{};
    for (std::size_t number = 0; number < kWorkers; ++number) goals[number] = workers[number].done + kOperations;
    for (std::size_t number = 0; number < kWorkers; ++number) {
      if (!is_frozen(number)) wait_for(workers[number], goals[number], places.c_str());
    }
    for (std::size_t number = 0; number < kWorkers; ++number) {
      const char byte = 0;
      if (is_frozen(number)) CHECK(write(workers[number].go_on[1], &byte, 1) == 1);
    }
  }
  bank.over = true;
  std::uint64_t operations = 0;
  for (Worker &worker : workers) {
    worker.thread.join();
    operations += worker.done;
    for (int end : {worker.stopped[0], worker.stopped[1], worker.go_on[0], worker.go_on[1]}) close(end);
  }

  // Everything is consistent, and memory is back at its floor: each key has one version.
  std::mt19937 any(0);
  bank.scan(any);
  auto stats = bank.database.stats();
  constexpr std::uint64_t keys = kAccounts + kTaken + 2;
  CHECK(CHECK_OK(stats) && stats.value().keys == keys && stats.value().versions == keys);
  CHECK(stats.value().active_transactions == 0);
  // Instants are random, but this many cannot all miss.
  CHECK(freezes > 0 && freezes > where[kOutside]);
  std::printf("%d freezes beside %" PRIu64 " operations:", freezes, operations);
  for (std::size_t step = 0; step < kSteps; ++step) std::printf(" %s %d", kStepNames[step], where[step]);
  std::printf("\n");
}

}  // namespace

int main(int count, char **arguments) {
  freezes(count > 1 ? std::atoi(arguments[1]) : 600, std::chrono::seconds(count > 2 ? std::atoi(arguments[2]) : 8));
  return check::finish("freeze_test");
}

#else

int main() {
  std::printf("freeze_test: skipped: it needs an allocator without locks, and a sanitizer brings its own\n");
  return 77;
}

#endif  // !KHONSU_SANITIZED
