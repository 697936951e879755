// The peers of benches/rust, through the tables of rust_peers.h.
#include <dlfcn.h>

#include "../peer.hpp"
#include "../rust_peers.h"

namespace bench {
namespace {

class RustSession final : public Session {
 public:
  RustSession(const rust_maker &functions, rust_session *session) : functions_(functions), session_(session) {}
  ~RustSession() override { functions_.end_session(session_); }

  std::uint64_t read(const Key *keys, std::size_t count) override { return functions_.read(session_, keys, count); }
  std::uint64_t scan(const Key &start) override { return functions_.scan(session_, start.bytes); }
  std::uint64_t put(const Key *keys, std::size_t count) override { return functions_.put(session_, keys, count); }
  std::uint64_t remove(const Key *keys, std::size_t count) override { return functions_.remove(session_, keys, count); }
  std::uint64_t increment(const Key *keys, std::size_t count) override {
    return functions_.increment(session_, keys, count);
  }
  std::uint64_t mixed(const Key *keys, const unsigned char *writes) override {
    return functions_.mixed(session_, keys, writes);
  }
  std::uint64_t empty(bool read_only) override { return functions_.empty(session_, read_only ? 1 : 0); }
  void load(std::uint64_t first, std::uint64_t count) override { functions_.load(session_, first, count); }
  std::int64_t sum_counters(std::uint64_t first, std::uint64_t count) override {
    return functions_.sum_counters(session_, first, count);
  }

 private:
  const rust_maker &functions_;
  rust_session *session_;
};

class RustPeer final : public Peer {
 public:
  explicit RustPeer(const rust_maker &functions) : functions_(functions), peer_(functions.open()) {}
  ~RustPeer() override { functions_.close(peer_); }

  std::string description() const override { return functions_.description; }
  bool can_scan() const override { return functions_.can_scan != 0; }
  std::unique_ptr<Session> session() override {
    return std::make_unique<RustSession>(functions_, functions_.session(peer_));
  }
  void settle() override { functions_.settle(peer_); }

 private:
  const rust_maker &functions_;
  rust_peer *peer_;
};

}  // namespace

std::vector<Maker> load_rust_makers(const std::string &library) {
  // Loaded for good, and not into the global scope: it holds a copy of khonsu of its own.
  void *handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) fail(dlerror());
  auto *makers = reinterpret_cast<rust_makers_function *>(dlsym(handle, "rust_makers"));
  if (makers == nullptr) fail(dlerror());
  std::size_t count = 0;
  const rust_maker *all = makers(&count);
  std::vector<Maker> found;
  for (const rust_maker *functions = all; functions != all + count; ++functions) {
    const auto make = [functions](const std::string &) { return std::make_unique<RustPeer>(*functions); };
    found.push_back({functions->name, make, true, functions->transactional != 0});
  }
  return found;
}

}  // namespace bench
