// What one call across the C boundary costs, beside the same call from Rust without Arrow. The keys are few enough for
// the caches: the call is measured, not the memory.
#include "arrow_row.hpp"
#include "runner.hpp"
#include "sections.hpp"

namespace bench {

void measure_boundary(const Options &options, const std::vector<Maker> &makers, const std::string &directory,
                      Samples &samples) {
  constexpr std::size_t kHotKeys = 100;
  std::vector<Key> keys;
  for (std::size_t id = 0; id < kHotKeys; ++id) keys.push_back(make_key(id));
  struct Side {
    std::string name;
    std::unique_ptr<Peer> peer;
    std::unique_ptr<Session> session;
  };
  std::vector<Side> sides;
  volatile double sink = 0;
  for (const Maker &maker : makers) {
    if (maker.name.rfind("khonsu", 0) != 0) continue;
    std::unique_ptr<Peer> peer = maker.make(directory);
    load_peer(*peer, kHotKeys);
    std::unique_ptr<Session> session = peer->session();
    sides.push_back({maker.name, std::move(peer), std::move(session)});
  }
  const auto time = [&](const char *name, const std::string &peer, const auto &body) {
    samples.add(name, 1, peer, time_calls(options.seconds / 3, kHotKeys, body), "ns");
  };
  for (unsigned round = 0; round < 3 * options.rounds; ++round) {
    time("boundary: a batch built and released", "no database", [&] {
      for (std::size_t i = 0; i < kHotKeys; ++i) {
        ArrowArray batch = make_batch(make_row(1, 2));
        sink = sink + read_batch(batch).sum();
        batch.release(&batch);
      }
    });
    for (const Side &side : sides) {
      time("boundary: get", side.name, [&] { side.session->read(keys.data(), kHotKeys); });
      time("boundary: put and commit", side.name, [&] { side.session->put(keys.data(), kHotKeys); });
    }
  }
}

}  // namespace bench
