// The power goes: what was not synced by then is there, or is not, or is there in part. The shim writes down what a
// process does to its files; from that record the folders are made that a failure of the power may have left at any
// point, and each must open, with every commit that was reported as synced, and a prefix of the others.
//
// What a disk may do here: of a file, what was written or resized before its last sync is there; of what came after,
// each block of 512 bytes and each new size may or may not be. Of a directory, the entries as they were at its last
// sync are there, and as many of the later changes as it may be, in their order.
//
// power_test [CUTS] [SEED]: so many failures of the power.
#include <algorithm>
#include <array>
#include <random>
#include <thread>

#include "fault_shim.h"
#include "storage_testing.hpp"

namespace {

namespace fs = std::filesystem;
using khonsu::Durability;

constexpr std::uint64_t kBlock = 512;
constexpr std::uint32_t kTurns = 8;  // of processes that make the commits
constexpr std::uint32_t kCommitsOfTurn = 20;
constexpr std::uint32_t kCommits = kTurns * kCommitsOfTurn;
constexpr std::uint32_t kBigRows = 300000;

// ---- the process whose record is taken ----

/// Some steps prepare a transaction, and later ones, also of other processes, decide about it.
enum class Do { commit, prepare, commit_prepared, roll_back };

Do what_of(std::uint32_t number) {
  const std::uint32_t place = number % kCommitsOfTurn, turn = number / kCommitsOfTurn;
  if (place == 7 || place == 9) return Do::prepare;
  if (place == 11 && turn >= 1) return Do::commit_prepared;
  if (place == 13 && turn >= 2) return Do::roll_back;
  return Do::commit;
}

/// The step that prepares the transaction that a step is about.
std::uint32_t prepared_by(std::uint32_t number) {
  switch (what_of(number)) {
    case Do::commit_prepared: return number - kCommitsOfTurn - 4;
    case Do::roll_back: return number - 2 * kCommitsOfTurn - 4;
    default: return number;
  }
}

std::string id_of(std::uint32_t number) { return "transaction/" + std::to_string(prepared_by(number)); }

/// The first and the last commits of a process are not synced: it leaves something to the next one, which does not put
/// it on the disk by the way.
Durability durability_of(std::uint32_t number) {
  if (what_of(number) == Do::roll_back) return Durability::buffered;
  if (what_of(number) != Do::commit) return Durability::synced;
  const std::uint32_t place = number % kCommitsOfTurn;
  const auto any = static_cast<std::size_t>(number % 7 % 3);
  const bool is_inner = place >= 6 && place + 6 < kCommitsOfTurn;
  return is_inner ? std::array<Durability, 3>{Durability::synced, Durability::buffered, Durability::none}[any]
                  : std::array<Durability, 3>{Durability::buffered, Durability::buffered, Durability::none}[any];
}

/// Stages and applies one commit of the fixed sequence, or what is prepared and committed later: that writes keys of
/// its own, and enough that checkpoints have something to do.
void stage(khonsu::Transaction *transaction, storage::State &state, std::uint32_t number) {
  const auto change = [&](const std::string &key, std::uint32_t rows, bool appends) {
    Values values;
    storage::add_rows(values, 100 + number, rows);
    if (!appends) state.erase(key);
    Values &stored = state[key];
    stored.insert(stored.end(), values.begin(), values.end());
    if (transaction == nullptr) return;
    CHECK_OK(appends ? transaction->append(key, storage::batch_of_rows(values))
                     : transaction->put(key, storage::batch_of_rows(values)));
  };
  if (what_of(number) == Do::prepare) {
    change("prepared/" + std::to_string(number), 2000, false);
    return;
  }
  change("number", 1, false);
  change("key/" + std::to_string(number % 5), 1 + number % 5, false);
  change("list/" + std::to_string(number % 3), 2, true);
  // Some fill segments of the log, so that it has several.
  if (number % 8 == 4) change("block/" + std::to_string(number % 3), 2000, false);
  if (number % 8 == 1) change("big", kBigRows, false);
}

/// One step of the fixed sequence.
void apply(storage::State &state, std::uint32_t number) {
  const std::string listed = storage::listed_key(id_of(number));
  switch (what_of(number)) {
    case Do::commit: stage(nullptr, state, number); break;
    case Do::prepare: state[listed] = storage::in_doubt(1); break;
    case Do::commit_prepared: stage(nullptr, state, prepared_by(number)); [[fallthrough]];
    case Do::roll_back: state.erase(listed);
  }
}

khonsu::Result<void> make(const khonsu::Database &database, std::uint32_t number, Durability durability) {
  const Do what = what_of(number);
  const std::string id = id_of(number);
  if (what == Do::commit_prepared) return storage::decide(database, id, khonsu::Decision::commit);
  if (what == Do::roll_back) return storage::decide(database, id, khonsu::Decision::rollback);
  // One that was made before a process was killed is not made again.
  if (what == Do::prepare && storage::recover(database).count(id) != 0) return {};
  auto transaction = database.begin(std::move(khonsu::TransactionOptions().durability(durability))).value_or_throw();
  storage::State unused;
  stage(&transaction, unused, number);
  return what == Do::prepare ? storage::prepare(transaction, id) : transaction.commit();
}

/// One process of several: opens the database and makes the next commits. It closes the database or, every other time,
/// is killed, so that the next one has something to recover.
///
/// Marks: 2 * n before commit n (from 1) is tried, 2 * n + 1 when all commits up to n are on the disk: when that was
/// reported, or when n, which is to be synced, was seen by a reader.
void work(const fs::path &folder, const fs::path &record, std::uint32_t turn) {
  fault_shim_watch(folder.c_str());
  fault_shim_record(record.c_str());
  // There is time to see what is not on the disk yet.
  fault_shim_delay(FAULT_SYNC, 300);
  auto opened = storage::open(folder / "database");
  if (!CHECK_OK(opened)) return;
  khonsu::Database database = std::move(opened).value();
  const auto newest = [&] {
    auto transaction = database.begin(std::move(khonsu::TransactionOptions().read_only())).value_or_throw();
    const auto found = read(transaction, "number");
    return found.has_value() ? static_cast<std::uint32_t>(found->at(0) - 100) + 1 : 0;
  };
  // Commits that promised nothing may have gone with the process before: they are made again.
  std::uint32_t number = newest();
  std::atomic<bool> stop{false};
  std::atomic<std::uint32_t> committed{number};
  // Checkpoints beside the commits, at any time.
  std::thread checkpoints([&] {
    while (!stop) {
      std::uint32_t before = committed;
      // Without a commit there is nothing new in it.
      if (before > 0 && what_of(before - 1) == Do::roll_back) --before;
      if (CHECK_OK(database.checkpoint())) fault_shim_mark(2 * before + 1);
      std::this_thread::sleep_for(std::chrono::milliseconds(40));
    }
  });
  std::thread reads([&] {
    std::uint32_t last = 0;
    while (!stop) {
      const std::uint32_t seen = newest();
      // What was seen is a commit: the steps behind it that are none may be missing.
      if (seen != last && seen > 0 && durability_of(seen - 1) == Durability::synced) fault_shim_mark(2 * seen + 1);
      last = seen;
    }
  });
  for (const std::uint32_t end = kCommitsOfTurn * (turn + 1); number < end; ++number) {
    const Durability durability = durability_of(number);
    fault_shim_mark(2 * (number + 1));
    if (!CHECK_OK(make(database, number, durability))) break;
    committed = number + 1;
    if (durability == Durability::synced) fault_shim_mark(2 * (number + 1) + 1);
    if (number % kCommitsOfTurn == 10 && CHECK_OK(database.sync())) fault_shim_mark(2 * (number + 1) + 1);
  }
  stop = true;
  checkpoints.join();
  reads.join();
  if (turn % 2 == 0 && check::failures == 0) fault_shim_die();
  database = khonsu::Database();
  // Closing leaves nothing to chance.
  fault_shim_mark(2 * number + 1);
}

// ---- what a disk makes of the record ----

struct Record : fault_record {
  std::string path, other_path;
  std::size_t data = 0;  ///< where in the file of the record
};

struct Node;

struct Change {
  enum class Kind { write, resize, link, unlink, rename } kind;
  std::uint64_t at = 0, size = 0;
  const char *data = nullptr;  ///< of a write; NULL: zeros
  std::string name{}, other_name{};
  Node *node = nullptr;  ///< of a link
};

/// A file or a directory: all that was done to it, of which so many changes are on the disk for sure.
struct Node {
  bool is_directory = false;
  std::vector<Change> changes;
  std::size_t synced = 0;
  std::map<std::string, Node *> now;  ///< a directory as the process saw it last
};

class Disk {
 public:
  Disk(const fs::path &root, const fs::path &record) : root_path_(root) {
    std::ifstream stream(record, std::ios::binary);
    bytes_.assign(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
    for (std::size_t at = 0; at + sizeof(fault_record) <= bytes_.size();) {
      Record entry;
      std::memcpy(static_cast<fault_record *>(&entry), bytes_.data() + at, sizeof(fault_record));
      at += sizeof(fault_record);
      entry.path = bytes_.substr(at, entry.path_bytes);
      at += entry.path_bytes;
      entry.other_path = bytes_.substr(at, entry.other_path_bytes);
      at += entry.other_path_bytes;
      entry.data = at;
      if (entry.has_data != 0) at += entry.size;
      records_.push_back(std::move(entry));
    }
  }

  [[nodiscard]] const std::vector<Record> &records() const { return records_; }

  /// The power goes after so many records: makes folder what the disk then has.
  void cut(std::size_t records, std::mt19937_64 &random, const fs::path &folder) {
    nodes_.clear();
    by_inode_.clear();
    pending_.clear();
    for (std::size_t number = 0; number < records; ++number) replay(records_[number]);
    // Of what was not synced: nothing, everything, or anything.
    static constexpr std::array<std::uint32_t, 4> kShares{0, 100, 50, 90};
    percent_ = kShares[random() % kShares.size()];
    make(*by_inode_.at(root_), random, folder);
  }

 private:
  Node *new_node(std::uint64_t inode, bool is_directory) {
    nodes_.push_back(std::make_unique<Node>());
    nodes_.back()->is_directory = is_directory;
    return by_inode_[inode] = nodes_.back().get();
  }

  /// The directory of a path, which exists, and the last part of the path.
  std::pair<Node *, std::string> find(const std::string &path) {
    Node *node = by_inode_.at(root_);
    const fs::path relative = fs::path(path).lexically_relative(root_path_);
    for (const fs::path &part : relative.parent_path()) node = node->now.at(part.string());
    return {node, relative.filename().string()};
  }

  void link(const Record &record, bool is_directory) {
    const auto [parent, name] = find(record.path);
    Node *node = new_node(record.inode, is_directory);
    parent->now[name] = node;
    Change change{Change::Kind::link};
    change.name = name;
    change.node = node;
    parent->changes.push_back(std::move(change));
  }

  void replay(const Record &record) {
    switch (record.kind) {
      case FAULT_RECORD_ROOT:
        root_ = record.inode;
        new_node(root_, true);
        break;
      case FAULT_RECORD_CREATE: link(record, false); break;
      case FAULT_RECORD_MKDIR: link(record, true); break;
      case FAULT_RECORD_RENAME: {
        const auto [parent, name] = find(record.path);
        const auto [other_parent, other_name] = find(record.other_path);
        CHECK(parent == other_parent);
        parent->now[other_name] = parent->now.at(name);
        parent->now.erase(name);
        Change change{Change::Kind::rename};
        change.name = name;
        change.other_name = other_name;
        parent->changes.push_back(std::move(change));
        break;
      }
      case FAULT_RECORD_UNLINK: {
        const auto [parent, name] = find(record.path);
        parent->now.erase(name);
        Change change{Change::Kind::unlink};
        change.name = name;
        parent->changes.push_back(std::move(change));
        break;
      }
      case FAULT_RECORD_WRITE: {
        Change change{Change::Kind::write, record.at, record.size};
        change.data = record.has_data != 0 ? bytes_.data() + record.data : nullptr;
        by_inode_.at(record.inode)->changes.push_back(std::move(change));
        break;
      }
      case FAULT_RECORD_RESIZE:
        by_inode_.at(record.inode)->changes.push_back({Change::Kind::resize, 0, record.size});
        break;
      case FAULT_RECORD_SYNC: {
        Node *node = by_inode_.at(record.inode);
        pending_[record.at] = {node, node->changes.size()};
        break;
      }
      case FAULT_RECORD_SYNCED: {
        const auto [node, changes] = pending_.at(record.at);
        node->synced = std::max(node->synced, changes);
        break;
      }
      default: break;
    }
  }

  void make(const Node &node, std::mt19937_64 &random, const fs::path &path) const {
    if (node.is_directory) {
      std::size_t kept = node.synced;
      while (kept < node.changes.size() && random() % 100 < percent_) ++kept;
      std::map<std::string, const Node *> entries;
      for (std::size_t number = 0; number < kept; ++number) {
        const Change &change = node.changes[number];
        switch (change.kind) {
          case Change::Kind::link: entries[change.name] = change.node; break;
          case Change::Kind::unlink: entries.erase(change.name); break;
          default: entries[change.other_name] = entries.at(change.name); entries.erase(change.name);
        }
      }
      fs::create_directory(path);
      for (const auto &[name, entry] : entries) make(*entry, random, path / name);
      return;
    }
    std::string content;
    for (std::size_t number = 0; number < node.changes.size(); ++number) {
      const Change &change = node.changes[number];
      const bool is_sure = number < node.synced;
      if (change.kind == Change::Kind::resize) {
        if (is_sure || random() % 100 < percent_) content.resize(change.size);
        continue;
      }
      for (std::uint64_t from = change.at, end = change.at + change.size; from < end;) {
        const std::uint64_t to = std::min(end, (from / kBlock + 1) * kBlock);
        if (is_sure || random() % 100 < percent_) {
          if (content.size() < to) content.resize(to);
          if (change.data == nullptr) {
            std::memset(content.data() + from, 0, to - from);
          } else {
            std::memcpy(content.data() + from, change.data + (from - change.at), to - from);
          }
        }
        from = to;
      }
    }
    const std::size_t used = content.find_last_not_of('\0') + 1;
    std::ofstream(path, std::ios::binary).write(content.data(), static_cast<std::streamsize>(used));
    fs::resize_file(path, content.size());
  }

  fs::path root_path_;
  std::string bytes_;
  std::vector<Record> records_;
  std::uint64_t root_ = 0;
  std::uint32_t percent_ = 0;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::map<std::uint64_t, Node *> by_inode_;
  std::map<std::uint64_t, std::pair<Node *, std::size_t>> pending_;
};

// ---- the process that judges ----

class Test {
 public:
  explicit Test(std::uint64_t seed) : seed_(seed), folder_(storage::new_folder("power")) {
    states_.emplace_back();
    for (std::uint32_t number = 0; number < kCommits; ++number) {
      states_.push_back(states_.back());
      apply(states_.back(), number);
    }
  }

  void all(std::uint32_t cuts) {
    fs::create_directory(folder_ / "live");
    for (std::uint32_t turn = 0; turn < kTurns; ++turn) {
      const int status = storage::wait_for(storage::start([&] { work(folder_ / "live", folder_ / "record", turn); }));
      const bool as_planned = turn % 2 == 0 ? WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL
                                            : WIFEXITED(status) && WEXITSTATUS(status) == 0;
      if (!CHECK(as_planned)) return;
    }
    Disk disk(folder_ / "live", folder_ / "record");
    fs::remove_all(folder_ / "live");
    // Nothing can be said for a test that saw nothing.
    const auto count = [&](fault_record_kind kind) {
      return std::count_if(disk.records().begin(), disk.records().end(),
                           [&](const Record &record) { return record.kind == kind; });
    };
    CHECK(count(FAULT_RECORD_CREATE) > 0 && count(FAULT_RECORD_WRITE) > 0 && count(FAULT_RECORD_SYNCED) > 0 &&
          count(FAULT_RECORD_RENAME) > 0 && count(FAULT_RECORD_UNLINK) > 0);
    for (std::uint32_t number = 0; number < cuts && check::failures < 10; ++number) {
      cut(disk, number);
    }
    std::printf("power_test: seed %llu: %u cuts of %zu records, %llu commits were lost that may be\n",
                static_cast<unsigned long long>(seed_), cuts, disk.records().size(),
                static_cast<unsigned long long>(lost_));
    if (check::failures == 0) fs::remove_all(folder_);
  }

 private:
  void cut(Disk &disk, std::uint32_t number) {
    std::seed_seq sequence{seed_, seed_ >> 32, static_cast<std::uint64_t>(number)};
    std::mt19937_64 random(sequence);
    // Where something has just become sure, or is just about to, more often than elsewhere.
    std::size_t at = random() % (disk.records().size() - 1) + 1;
    if (random() % 2 == 0) {
      while (at < disk.records().size() && disk.records()[at - 1].kind != FAULT_RECORD_MARK &&
             disk.records()[at - 1].kind != FAULT_RECORD_UNLINK && disk.records()[at - 1].kind != FAULT_RECORD_RENAME) {
        ++at;
      }
    }
    std::size_t floor = 0, most = 0;
    for (std::size_t record = 0; record < at; ++record) {
      if (disk.records()[record].kind != FAULT_RECORD_MARK) continue;
      const std::uint64_t mark = disk.records()[record].at;
      std::size_t &reached = mark % 2 == 1 ? floor : most;
      reached = std::max<std::size_t>(reached, mark / 2);
    }
    const fs::path folder = folder_ / ("cut-" + std::to_string(number));
    disk.cut(at, random, folder);
    std::size_t found = 0;
    std::string mistake = judge(folder, floor, most, found);
    if (mistake.empty() && found < kCommits) {
      // What is lost is lost for good: it does not come back behind a commit that is made in its place.
      const int status = storage::wait_for(storage::start([&] {
        auto database = storage::open(folder / "database", Durability::buffered).value_or_throw();
        if (CHECK_OK(make(database, static_cast<std::uint32_t>(found), Durability::buffered))) kill(getpid(), SIGKILL);
      }));
      if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) mistake = storage::failure_of(status);
      lost_ += most - found;
      if (mistake.empty()) mistake = judge(folder, found + 1, found + 1, found);
      if (!mistake.empty()) mistake = "after another commit: " + mistake;
    }
    if (CHECK(mistake.empty())) {
      fs::remove_all(folder);
      return;
    }
    std::fprintf(stderr,
                 "power_test: seed %llu, cut %u after record %zu, commits %zu to %zu: %s (kept, and opened: %s)\n",
                 static_cast<unsigned long long>(seed_), number, at, floor, most, mistake.c_str(), folder.c_str());
  }

  /// Opens the database, which must be in one of the states after these commits; says in which.
  std::string judge(const fs::path &folder, std::size_t floor, std::size_t most, std::size_t &number) {
    report_->clear();
    const std::string failure =
        storage::failure_of(storage::wait_for(storage::start([&] { report_->open(folder / "database"); })));
    if (!failure.empty()) return failure;
    if (!report_->ok()) return "not opened: " + report_->to_string();
    const storage::State found = report_->state();
    std::string mistake;
    for (number = most + 1; number-- > floor;) {
      const std::string different = storage::difference(states_[number], found);
      if (different.empty()) return "";
      if (mistake.empty()) mistake = different;
    }
    const auto other = std::find(states_.begin(), states_.end(), found);
    return mistake + (other == states_.end()
                          ? ", and no commit made such a state"
                          : "; it is the state after commit " + std::to_string(other - states_.begin()));
  }

  std::uint64_t seed_;
  fs::path folder_;
  std::vector<storage::State> states_;
  storage::Shared<storage::Report> report_;
  std::uint64_t lost_ = 0;
};

}  // namespace

int main(int count, char **arguments) {
  const auto cuts = static_cast<std::uint32_t>(count > 1 ? std::atoi(arguments[1]) : 150);
  const std::uint64_t seed = count > 2 ? std::strtoull(arguments[2], nullptr, 10) : 1;
  Test(seed).all(cuts);
  return check::finish("power_test");
}
