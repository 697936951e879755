// A file system without space: a small tmpfs that only this process sees. Commits then fail, and say why; reads go on;
// and once there is space again, so does the database.
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <thread>

#include "storage_testing.hpp"

namespace {

namespace fs = std::filesystem;
using khonsu::Durability;
using khonsu::Status;

constexpr std::uint32_t kThreads = 4;
constexpr std::uint32_t kRows = 30000;  // of a value: 240 KB
constexpr std::uint32_t kMostValues = 400;

bool write_text(const char *path, const std::string &text) {
  const int file = open(path, O_WRONLY);
  const bool written = file >= 0 && write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  if (file >= 0) close(file);
  return written;
}

/// Mounts for this process alone, with a user namespace where it may not otherwise.
bool mount_private(const fs::path &folder, const char *options) {
  if (unshare(CLONE_NEWNS) != 0) {
    const std::string user = std::to_string(getuid()), group = std::to_string(getgid());
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0 || !write_text("/proc/self/setgroups", "deny") ||
        !write_text("/proc/self/uid_map", "0 " + user + " 1") ||
        !write_text("/proc/self/gid_map", "0 " + group + " 1")) {
      return false;
    }
  }
  return mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         mount("khonsu", folder.c_str(), "tmpfs", 0, options) == 0;
}

class Test {
 public:
  explicit Test(const fs::path &folder) : folder_(folder), ballast_(folder / "ballast") {}

  void all() {
    opens_once_there_is_space();
    fills_up_and_goes_on();
    opens_what_was_full();
  }

 private:
  void take(std::uint64_t bytes) {
    const int file = open(ballast_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(file >= 0 && posix_fallocate(file, 0, static_cast<off_t>(bytes)) == 0);
    close(file);
  }
  void give() { fs::remove(ballast_); }

  static bool says_full(const khonsu::Error &error) {
    const bool does =
        error.status() == Status::storage && error.message().find(std::strerror(ENOSPC)) != std::string_view::npos;
    if (!does) std::fprintf(stderr, "  it is: %s\n", error.to_string().c_str());
    return does;
  }

  void expect_state(const khonsu::Database &database) const {
    const std::string different = storage::difference(state_, storage::state_of(database));
    if (!CHECK(different.empty())) std::fprintf(stderr, "  %s\n", different.c_str());
  }

  static khonsu::Result<void> put(const khonsu::Database &database, const std::string &key, std::int64_t token,
                                  std::uint32_t rows) {
    Values values;
    storage::add_rows(values, token, rows);
    auto transaction = database.begin();
    if (!transaction.ok()) return std::move(transaction).error();
    auto staged = transaction.value().put(key, storage::batch_of_rows(values));
    return staged.ok() ? transaction.value().commit() : std::move(staged);
  }
  void put_and_note(const khonsu::Database &database, const std::string &key) {
    if (!CHECK_OK(put(database, key, 7, 3))) return;
    state_[key].clear();
    storage::add_rows(state_[key], 7, 3);
  }

  void opens_once_there_is_space() {
    take(fs::space(folder_).available - (256 << 10));
    auto refused = storage::open(folder_ / "database");
    CHECK(!refused.ok() && says_full(refused.error()));
    give();
    auto opened = storage::open(folder_ / "database");
    if (CHECK_OK(opened)) put_and_note(opened.value(), "first");
  }

  /// All threads commit until there is no space; returns how many values each of them could.
  static std::array<std::uint32_t, kThreads> fill(const khonsu::Database &database, const std::string &prefix) {
    std::array<std::uint32_t, kThreads> done{};
    std::vector<std::thread> threads;
    for (std::uint32_t thread = 0; thread < kThreads; ++thread) {
      threads.emplace_back([&database, &prefix, &done, thread] {
        std::uint32_t &number = done[thread];
        for (; number < kMostValues; ++number) {
          const std::string key = prefix + std::to_string(thread) + "/" + std::to_string(number);
          auto committed = put(database, key, number, kRows);
          if (!committed.ok()) {
            CHECK(says_full(committed.error()));
            break;
          }
        }
        CHECK(number < kMostValues);
      });
    }
    for (std::thread &thread : threads) thread.join();
    return done;
  }
  void fill_and_note(const khonsu::Database &database, const std::string &prefix) {
    const auto done = fill(database, prefix);
    std::uint32_t all = 0;
    for (std::uint32_t thread = 0; thread < kThreads; ++thread) {
      all += done[thread];
      for (std::uint32_t number = 0; number < done[thread]; ++number) {
        storage::add_rows(state_[prefix + std::to_string(thread) + "/" + std::to_string(number)], number, kRows);
      }
    }
    CHECK(all > 0);
    std::printf("disk_full_test: full after %u values of %u KiB\n", all, kRows * 8 / 1024);
  }

  void fills_up_and_goes_on() {
    take(24 << 20);
    auto opened = storage::open(folder_ / "database");
    if (!CHECK_OK(opened)) return;
    khonsu::Database database = std::move(opened).value();
    expect_state(database);
    fill_and_note(database, "filled/");
    expect_state(database);

    // A delete needs space in the log, too: it may find some, or not.
    auto transaction = database.begin().value_or_throw();
    CHECK_OK(transaction.remove("first"));
    auto removed = transaction.commit();
    if (removed.ok()) state_.erase("first");
    if (!removed.ok()) CHECK(says_full(removed.error()));
    auto checkpoint = database.checkpoint();
    if (!checkpoint.ok()) CHECK(says_full(checkpoint.error()));
    std::printf("disk_full_test: when full, a delete %s and a checkpoint %s\n", removed.ok() ? "succeeds" : "fails",
                checkpoint.ok() ? "succeeds" : "fails");
    expect_state(database);

    give();
    put_and_note(database, "after/1");
    put_and_note(database, "after/2");
    expect_state(database);
    database = khonsu::Database();
    auto again = storage::open(folder_ / "database");
    if (CHECK_OK(again)) expect_state(again.value());
  }

  /// Closed while it is full, it is opened with what it had as soon as there is space; before, perhaps.
  void opens_what_was_full() {
    {
      auto opened = storage::open(folder_ / "database");
      if (!CHECK_OK(opened)) return;
      fill_and_note(opened.value(), "filled again/");
      expect_state(opened.value());
    }
    if (const auto left = fs::space(folder_).available; left > 0) take(left);
    {
      auto full = storage::open(folder_ / "database");
      std::printf("disk_full_test: on a full file system opening %s\n", full.ok() ? "succeeds" : "fails");
      if (full.ok()) {
        expect_state(full.value());
      } else {
        CHECK(says_full(full.error()));
      }
    }
    give();
    if (!CHECK(mount("khonsu", folder_.c_str(), "tmpfs", MS_REMOUNT, "size=200m") == 0)) return;
    auto opened = storage::open(folder_ / "database");
    if (!CHECK_OK(opened)) return;
    expect_state(opened.value());
    put_and_note(opened.value(), "last");
    expect_state(opened.value());
  }

  fs::path folder_;
  fs::path ballast_;
  storage::State state_;
};

}  // namespace

int main() {
  const fs::path folder = storage::new_folder("disk-full");
  int result = 77;
  if (mount_private(folder, "size=64m")) {
    Test(folder).all();
    CHECK(umount2(folder.c_str(), MNT_DETACH) == 0);
    result = check::finish("disk_full_test");
  } else {
    std::printf("disk_full_test: skipped: this user may not mount a tmpfs: %s\n", std::strerror(errno));
  }
  fs::remove(folder);
  return result;
}
