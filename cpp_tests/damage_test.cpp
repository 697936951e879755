// Damaged folders: of databases that were closed, and of some whose process was killed, one bit is flipped, or a block
// becomes zero. Opening such a folder says which file is damaged, or gives a right state; it never gives a wrong one.
//
// damage_test [CASES] [SEED]: so many flipped bits in each folder.
#include <sys/resource.h>

#include <algorithm>
#include <random>

#include "storage_testing.hpp"

namespace {

namespace fs = std::filesystem;
using khonsu::Durability;
using khonsu::Status;

constexpr std::size_t kBlock = 512;
constexpr std::uint32_t kCommits = 60;
/// After this commit a checkpoint is made.
constexpr std::uint32_t kCheckpoint = 25;

// ---- what is stored ----

/// Stages and applies one commit of the fixed sequence.
void commit(khonsu::Transaction *transaction, storage::State &state, std::uint32_t number) {
  const auto put = [&](const std::string &key, std::uint32_t rows, bool appends) {
    Values values;
    storage::add_rows(values, 100 + number, rows);
    if (!appends) state.erase(key);
    Values &stored = state[key];
    stored.insert(stored.end(), values.begin(), values.end());
    if (transaction == nullptr) return;
    CHECK_OK(appends ? transaction->append(key, storage::batch_of_rows(values))
                     : transaction->put(key, storage::batch_of_rows(values)));
  };
  put("number", 1, false);
  put("key/" + std::to_string(number % 7), 1 + number % 5, false);
  put("list/" + std::to_string(number % 3), 2, true);
  if (number % 10 == 4) put("block/" + std::to_string(number % 20), 2000, false);
  if (number % 6 == 5) {
    const std::string key = "key/" + std::to_string((number + 3) % 7);
    state.erase(key);
    if (transaction != nullptr) CHECK_OK(transaction->remove(key));
  }
}

std::vector<storage::State> states() {
  std::vector<storage::State> all{{}};
  for (std::uint32_t number = 0; number < kCommits; ++number) {
    all.push_back(all.back());
    commit(nullptr, all.back(), number);
  }
  return all;
}

/// Makes the database in a process of its own, which closes it or is killed.
void make(const fs::path &folder, Durability durability, bool closes) {
  const int status = storage::wait_for(storage::start([&] {
    khonsu::Database database = storage::open(folder, durability).value_or_throw();
    storage::State state;
    for (std::uint32_t number = 0; number < kCommits; ++number) {
      khonsu::Transaction transaction = database.begin().value_or_throw();
      commit(&transaction, state, number);
      CHECK_OK(transaction.commit());
      transaction = khonsu::Transaction();
      if (number == kCheckpoint) CHECK_OK(database.checkpoint());
    }
    if (!closes && check::failures == 0) kill(getpid(), SIGKILL);
  }));
  CHECK(closes ? WIFEXITED(status) && WEXITSTATUS(status) == 0 : WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

// ---- damage ----

/// The files of a folder, as they were, without the zeros at their ends.
class Image {
 public:
  struct File {
    fs::path path;  ///< below the folder
    std::vector<char> used;
    std::uintmax_t size;
  };

  explicit Image(fs::path folder) : folder_(std::move(folder)) {
    for (const auto &entry : fs::recursive_directory_iterator(folder_)) {
      if (!entry.is_regular_file()) continue;
      std::ifstream stream(entry.path(), std::ios::binary);
      std::vector<char> bytes{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
      const std::uintmax_t size = bytes.size();
      while (!bytes.empty() && bytes.back() == 0) bytes.pop_back();
      files_.push_back({fs::relative(entry.path(), folder_), std::move(bytes), size});
    }
    std::sort(files_.begin(), files_.end(), [](const File &a, const File &b) { return a.path < b.path; });
  }

  [[nodiscard]] const std::vector<File> &files() const { return files_; }

  /// The folder as it was, but for this file.
  void restore(const File *damaged) const {
    fs::remove_all(folder_);
    for (const File &file : files_) {
      const File &written = damaged != nullptr && damaged->path == file.path ? *damaged : file;
      const fs::path path = folder_ / written.path;
      fs::create_directories(path.parent_path());
      std::ofstream(path, std::ios::binary)
          .write(written.used.data(), static_cast<std::streamsize>(written.used.size()));
      fs::resize_file(path, written.size);
    }
  }

 private:
  fs::path folder_;
  std::vector<File> files_;
};

struct Folder {
  const char *name;
  Durability durability;
  bool closes;
  /// The first commits that must be there, whatever is damaged, when it is opened at all.
  std::size_t floor_of_bits;
  std::size_t floor_of_blocks;
};

// Of a closed database, a bit takes away nothing unseen. A zeroed block may take the last commits with it, and with
// them every sign that they were there; each takes more than 200 bytes. Of one that was killed nothing says that its
// last commit was whole, and, when nothing was synced, that anything behind the checkpoint was.
constexpr Folder kFolders[]{
    {"closed", Durability::synced, true, kCommits, kCommits - 4},
    {"killed after syncs", Durability::synced, false, kCommits - 1, kCommits - 4},
    {"killed without syncs", Durability::buffered, false, kCheckpoint + 1, kCheckpoint + 1},
};

class Test {
 public:
  Test(std::uint32_t cases, std::uint64_t seed)
      : cases_(cases), random_(seed), folder_(storage::new_folder("damage")), states_(states()) {}

  void all() {
    for (const Folder &folder : kFolders) {
      make(folder_ / "database", folder.durability, folder.closes);
      const Image image(folder_ / "database");
      expect(folder, image, nullptr, kCommits, "nothing is damaged");
      refused_ = right_ = 0;
      for (std::uint32_t number = 0; number < cases_ && check::failures < 20; ++number) flip_bit(folder, image);
      for (const Image::File &file : image.files()) {
        if (!file.used.empty()) zero_blocks(folder, image, file);
      }
      std::printf("damage_test: %s: %zu files, opened %u times, refused %u times\n", folder.name, image.files().size(),
                  right_, refused_);
      CHECK(refused_ > 0);
      fs::remove_all(folder_ / "database");
    }
    if (check::failures == 0) fs::remove_all(folder_);
  }

 private:
  void flip_bit(const Folder &folder, const Image &image) {
    // Each file as often as the others, however small it is.
    Image::File file = image.files()[random_() % image.files().size()];
    if (file.used.empty()) return;
    std::size_t at = random_() % file.used.size();
    while (file.used[at] == 0) at = (at + 1) % file.used.size();
    const auto bit = random_() % 8;
    file.used[at] = static_cast<char>(file.used[at] ^ (1 << bit));
    expect(folder, image, &file, folder.floor_of_bits, "bit " + std::to_string(bit) + " of byte " + std::to_string(at));
  }

  void zero_blocks(const Folder &folder, const Image &image, const Image::File &file) {
    const auto zero = [&](std::size_t from, std::size_t to, std::size_t floor) {
      Image::File damaged = file;
      std::fill(damaged.used.begin() + static_cast<std::ptrdiff_t>(from),
                damaged.used.begin() + static_cast<std::ptrdiff_t>(to), '\0');
      expect(folder, image, &damaged, floor, "zeros in bytes " + std::to_string(from) + " to " + std::to_string(to));
    };
    const std::size_t size = file.used.size();
    zero(size - std::min(size, kBlock), size, folder.floor_of_blocks);
    // The last block of the file system, of which the end of the file is a part.
    zero((size - 1) / kBlock * kBlock, size, folder.floor_of_blocks);
    // Blocks in the middle, which are followed by others.
    for (int number = 0; number < 8 && size > 16 * kBlock; ++number) {
      const std::size_t from = random_() % (size / kBlock - 8) * kBlock;
      if (std::any_of(file.used.begin() + static_cast<std::ptrdiff_t>(from),
                      file.used.begin() + static_cast<std::ptrdiff_t>(from + kBlock),
                      [](char byte) { return byte != 0; })) {
        zero(from, from + kBlock, folder.floor_of_bits);
      }
    }
  }

  /// Opens the folder with this damage: it is refused for the damaged file, or has one of the last states from floor
  /// on.
  void expect(const Folder &folder, const Image &image, const Image::File *damaged, std::size_t floor,
              const std::string &what) {
    image.restore(damaged);
    report_->clear();
    const std::string failure = storage::failure_of(storage::wait_for(storage::start([&] {
      // A damaged length must not be believed.
      const rlimit limit{rlim_t{8} << 30, rlim_t{8} << 30};
      setrlimit(RLIMIT_AS, &limit);
      report_->open(folder_ / "database");
    })));
    std::string mistake = failure;
    if (mistake.empty() && !report_->complete()) mistake = report_->to_string();
    if (mistake.empty()) mistake = report_->ok() ? judge_state(floor) : judge_refusal(damaged);
    if (CHECK(mistake.empty())) return;
    std::fprintf(stderr, "damage_test: %s, %s: %s: %s (kept: %s)\n", folder.name,
                 damaged == nullptr ? "" : damaged->path.c_str(), what.c_str(), mistake.c_str(), keep().c_str());
  }

  std::string judge_state(std::size_t floor) {
    ++right_;
    const storage::State found = report_->state();
    std::string mistake;
    for (std::size_t number = states_.size(); number-- > floor;) {
      const std::string different = storage::difference(states_[number], found);
      if (different.empty()) return "";
      if (mistake.empty()) mistake = different;
    }
    const auto earlier = std::find(states_.begin(), states_.end(), found);
    return mistake + (earlier == states_.end()
                          ? ", and no commit made such a state"
                          : "; it is the state after commit " + std::to_string(earlier - states_.begin()));
  }

  std::string judge_refusal(const Image::File *damaged) {
    ++refused_;
    if (damaged == nullptr) return "refused: " + report_->to_string();
    const std::string file = damaged->path.filename().string();
    // The number of another format is as good a reason as damage.
    const bool is_format = file == "FORMAT" && report_->status() == Status::storage;
    if (report_->status() != Status::corruption && !is_format) return "refused otherwise: " + report_->to_string();
    return report_->message().find(file) == std::string::npos ? "does not name the file: " + report_->to_string() : "";
  }

  fs::path keep() {
    const fs::path kept = folder_ / ("kept-" + std::to_string(++kept_));
    fs::copy(folder_ / "database", kept, fs::copy_options::recursive);
    return kept;
  }

  std::uint32_t cases_;
  std::mt19937_64 random_;
  fs::path folder_;
  std::vector<storage::State> states_;
  storage::Shared<storage::Report> report_;
  std::uint32_t right_ = 0, refused_ = 0, kept_ = 0;
};

}  // namespace

int main(int count, char **arguments) {
  const auto cases = static_cast<std::uint32_t>(count > 1 ? std::atoi(arguments[1]) : 200);
  const std::uint64_t seed = count > 2 ? std::strtoull(arguments[2], nullptr, 10) : 1;
  std::printf("damage_test: seed %llu\n", static_cast<unsigned long long>(seed));
  Test(cases, seed).all();
  return check::finish("damage_test");
}
