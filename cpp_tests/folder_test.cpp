// The folder of a database: who may open it, and which folders are left alone.
#include <algorithm>

#include "storage_testing.hpp"

namespace {

namespace fs = std::filesystem;
using khonsu::Status;

fs::path root;

/// Every entry below a folder, with what is in the files.
std::map<std::string, std::string> contents_of(const fs::path &folder) {
  std::map<std::string, std::string> contents;
  for (const auto &entry : fs::recursive_directory_iterator(folder)) {
    std::string &text = contents[fs::relative(entry.path(), folder).string()];
    if (!entry.is_regular_file()) continue;
    std::ifstream stream(entry.path(), std::ios::binary);
    text.assign(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
  }
  return contents;
}

void put(const khonsu::Database &database, const std::string &key, std::int64_t value) {
  CHECK_OK(
      database.transact([&](khonsu::Transaction &transaction) { return transaction.put(key, batch_of({value})); }));
}

bool has(const khonsu::Database &database, const std::string &key, std::int64_t value) {
  const storage::State state = storage::state_of(database);
  const auto found = state.find(key);
  return found != state.end() && found->second == Values{value};
}

void write_text(const fs::path &path, const std::string &text) { std::ofstream(path, std::ios::binary) << text; }

bool names(const khonsu::Error &error, const std::string &text) {
  const bool does = error.message().find(text) != std::string_view::npos;
  if (!does) std::fprintf(stderr, "  it is: %s\n", error.to_string().c_str());
  return does;
}

/// Opening fails with this status, and changes nothing below parent.
khonsu::Error refuses(const fs::path &folder, const fs::path &parent, Status status) {
  const auto before = contents_of(parent);
  auto opened = storage::open(folder);
  CHECK(contents_of(parent) == before);
  if (!CHECK(!opened.ok())) return {};
  if (!CHECK(opened.status() == status)) std::fprintf(stderr, "  it is: %s\n", opened.error().to_string().c_str());
  return std::move(opened).error();
}

/// Folders that other versions of khonsu have written, or none.
void formats() {
  const fs::path folder = root / "formats";
  {
    put(storage::open(folder).value_or_throw(), "key", 1);
  }
  std::ifstream stream(folder / "FORMAT");
  const std::string format{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  const auto digit = format.find('2');
  if (!CHECK(format.rfind("khonsu storage 2", 0) == 0)) return;
  std::string newer = format;
  newer[digit] = '3';
  write_text(folder / "FORMAT", newer);
  const khonsu::Error refused = refuses(folder, folder, Status::storage);
  CHECK(names(refused, "is 3") && names(refused, "up to 2") && names(refused, folder.filename().string()));

  for (const char *text : {"", "khonsu", "another program's\n", "khonsu storage one\n"}) {
    write_text(folder / "FORMAT", text);
    const auto before = contents_of(folder);
    auto opened = storage::open(folder);
    CHECK(!opened.ok() && (opened.status() == Status::storage || opened.status() == Status::corruption));
    CHECK(contents_of(folder) == before);
  }
  write_text(folder / "FORMAT", format);
  auto opened = storage::open(folder);
  CHECK(CHECK_OK(opened) && has(opened.value(), "key", 1));
}

/// Folders with something else in them are not written into.
void foreign() {
  const fs::path folder = root / "foreign";
  fs::create_directories(folder / "with files");
  write_text(folder / "with files" / "notes.txt", "mine");
  CHECK(names(refuses(folder / "with files", folder, Status::storage), "with files"));
  fs::create_directories(folder / "with a folder" / "sub");
  CHECK(names(refuses(folder / "with a folder", folder, Status::storage), "with a folder"));
  write_text(folder / "a file", "mine");
  CHECK(names(refuses(folder / "a file", folder, Status::storage), "a file"));
  // An empty one is as good as none.
  fs::create_directories(folder / "empty");
  auto opened = storage::open(folder / "empty");
  if (CHECK_OK(opened)) put(opened.value(), "key", 1);
}

/// One database a folder, by whatever path it is named.
void locks() {
  const fs::path folder = root / "locks";
  auto opened = storage::open(folder);
  if (!CHECK_OK(opened)) return;
  khonsu::Database first = std::move(opened).value();
  put(first, "key", 1);
  fs::create_symlink(folder, root / "link");
  for (const fs::path &path : {folder, root / "." / "locks", root / "link"}) {
    auto second = storage::open(path);
    CHECK_FAILS(locked, second);
    if (!second.ok()) CHECK(names(second.error(), path.string()));
  }
  // The first is not disturbed by them, and its end lets others in.
  put(first, "key", 2);
  CHECK(has(first, "key", 2));
  {
    auto transaction = first.begin().value_or_throw();
    first = khonsu::Database();
    // A transaction keeps its database, and so the lock.
    CHECK_FAILS(locked, storage::open(folder));
  }
  auto again = storage::open(folder);
  CHECK(CHECK_OK(again) && has(again.value(), "key", 2));
}

/// The same from another process, until that one ends, however it does.
void locks_between_processes() {
  const fs::path folder = root / "processes";
  storage::Shared<std::atomic<bool>> is_open;
  *is_open = false;
  const pid_t holder = storage::start([&] {
    auto database = storage::open(folder);
    if (CHECK_OK(database)) put(database.value(), "key", 1);
    *is_open = true;
    for (;;) pause();
  });
  while (!*is_open) usleep(1000);
  storage::run([&] { CHECK_FAILS(locked, storage::open(folder)); });
  CHECK_FAILS(locked, storage::open(folder));
  kill(holder, SIGKILL);
  const int status = storage::wait_for(holder);
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  auto opened = storage::open(folder);
  CHECK(CHECK_OK(opened) && has(opened.value(), "key", 1));
}

/// Of many processes that open a new folder at once, one at a time has it; none finds it half made.
void races() {
  const fs::path folder = root / "races";
  std::vector<pid_t> children;
  for (int number = 0; number < 8; ++number) {
    children.push_back(storage::start([&] {
      for (int turn = 0; turn < 20; ++turn) {
        auto opened = storage::open(folder);
        if (opened.ok()) {
          put(opened.value(), "key/" + std::to_string(number), turn);
        } else {
          CHECK_FAILS(locked, opened);
        }
      }
    }));
  }
  for (const pid_t child : children) CHECK(storage::failure_of(storage::wait_for(child)).empty());
  CHECK_OK(storage::open(folder));
}

/// With its last handle a database is closed, even while a checkpoint is made in the background: it can be opened at
/// once, and has everything.
void reopens() {
  const fs::path folder = root / "reopens";
  Values rows;
  storage::add_rows(rows, 1, 1 << 20);
  for (std::int64_t turn = 1; turn <= 4; ++turn) {
    auto opened = storage::open(folder, khonsu::Durability::none);
    if (!CHECK_OK(opened)) return;
    // More than is gathered before a checkpoint, which is 64 MiB.
    for (int number = 0; number < 9; ++number) {
      CHECK_OK(opened.value().transact(
          [&](khonsu::Transaction &transaction) { return transaction.put("big", storage::batch_of_rows(rows)); }));
    }
    put(opened.value(), "turn", turn);
    opened = khonsu::Error(Status::cancelled);
    auto again = storage::open(folder);
    CHECK(CHECK_OK(again) && has(again.value(), "turn", turn));
  }
}

/// What a crash has left half made goes when the database is opened.
void leftovers() {
  const fs::path folder = root / "leftovers";
  {
    put(storage::open(folder).value_or_throw(), "key", 1);
  }
  const fs::path half = folder / "checkpoint-00000000000000000009.tmp";
  fs::create_directory(half);
  write_text(half / "0.arrows", "half");
  auto opened = storage::open(folder);
  CHECK(CHECK_OK(opened) && has(opened.value(), "key", 1));
  CHECK(!fs::exists(half));
}

}  // namespace

int main() {
  root = storage::new_folder("folder");
  locks_between_processes();
  races();
  formats();
  foreign();
  locks();
  reopens();
  leftovers();
  if (check::failures == 0) fs::remove_all(root);
  return check::finish("folder_test");
}
