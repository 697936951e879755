// Two-phase commit by khonsu.hpp: a transfer between two databases, votes, reports and lists.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "check.hpp"

namespace {

using khonsu::PrepareFlags;

khonsu::Database open() {
  auto database = khonsu::Database::open();
  CHECK_OK(database);
  return std::move(database).value();
}

khonsu::Transaction begin(const khonsu::Database &database) { return std::move(database.begin()).value(); }

std::optional<Values> committed(const khonsu::Database &database, khonsu::Bytes key) {
  khonsu::Transaction transaction = begin(database);
  return read(transaction, key);
}

void put(const khonsu::Database &database, khonsu::Bytes key, std::int64_t value) {
  khonsu::Transaction transaction = begin(database);
  CHECK_OK(transaction.put(key, batch_of({value})));
  CHECK_OK(transaction.commit());
}

khonsu::Result<khonsu::Vote> change(const khonsu::Database &database, khonsu::Bytes key, std::int64_t by,
                                    khonsu::Bytes global_id) {
  khonsu::Transaction transaction = begin(database);
  const std::int64_t balance = read(transaction, key)->front();
  CHECK_OK(transaction.put(key, batch_of({balance + by})));
  return transaction.prepare(global_id, PrepareFlags::allow_volatile);
}

void a_transfer_between_two_databases() {
  khonsu::Database left = open(), right = open();
  put(left, "account", 100);
  put(right, "account", 100);
  const std::string id = "transfer 1";
  auto first = change(left, "account", -30, id), second = change(right, "account", 30, id);
  CHECK(CHECK_OK(first) && first.value() == khonsu::Vote::yes && CHECK_OK(second));
  CHECK(committed(left, "account") == Values{100} && committed(right, "account") == Values{100});

  khonsu::Transaction other = begin(left);
  CHECK_OK(other.put("account", batch_of({1})));
  auto refused = other.commit();
  CHECK_FAILS(conflict, refused);
  const std::vector<khonsu::Conflict> conflicts = refused.error().conflicts();
  CHECK(conflicts.size() == 1 && conflicts[0].kind == khonsu::ConflictKind::prepared && conflicts[0].global_id == id);
  CHECK(refused.error().decision() == std::nullopt);

  for (const khonsu::Database *database : {&left, &right}) {
    auto version = database->commit_prepared(id);
    CHECK(CHECK_OK(version) && version.value() == 2U);
    CHECK(database->commit_prepared(id).value() == 2U);
    CHECK(database->stats().value().prepared_transactions == 0);
  }
  CHECK(committed(left, "account") == Values{70} && committed(right, "account") == Values{130});
}

void reports() {
  khonsu::Database database = open();
  put(database, "account", 1);
  CHECK(database.commit_prepared("unknown").value() == std::nullopt);
  CHECK(!database.rollback_prepared("unknown").value());
  CHECK(!database.decide_heuristically("unknown", khonsu::Decision::commit).value());
  CHECK_OK(database.forget("unknown"));

  CHECK_OK(change(database, "account", 1, "one"));
  CHECK_FAILS(conflict, change(database, "account", 1, "two"));
  CHECK_FAILS(invalid_state, database.forget("one"));
  khonsu::Transaction same = begin(database);
  CHECK_OK(same.put("other", batch_of({1})));
  CHECK_FAILS(duplicate, same.prepare("one", PrepareFlags::allow_volatile));
  khonsu::Transaction volatile_one = begin(database);
  CHECK_OK(volatile_one.put("other", batch_of({1})));
  CHECK_FAILS(invalid_argument, volatile_one.prepare(""));
  CHECK_FAILS(not_durable, volatile_one.prepare("two"));
  CHECK_FAILS(invalid_state, volatile_one.commit());

  CHECK(database.decide_heuristically("one", khonsu::Decision::rollback).value());
  auto reported = database.commit_prepared("one");
  CHECK_FAILS(heuristic, reported);
  CHECK(reported.error().decision() == khonsu::Decision::rollback);
  CHECK_FAILS(heuristic, database.decide_heuristically("one", khonsu::Decision::commit));
  CHECK_OK(database.forget("one"));

  CHECK_OK(change(database, "account", 1, "one"));
  CHECK(database.rollback_prepared("one").value());
  auto late = database.commit_prepared("one");
  CHECK_FAILS(already_decided, late);
  CHECK(late.error().decision() == khonsu::Decision::rollback && committed(database, "account") == Values{1});
}

void lists_and_held_reads() {
  khonsu::Database database = open();
  put(database, "read", 1);
  khonsu::Transaction reader = begin(database);
  CHECK(read(reader, "read") == Values{1});
  auto vote = reader.prepare("reader", PrepareFlags::allow_volatile | PrepareFlags::hold_reads);
  CHECK(CHECK_OK(vote) && vote.value() == khonsu::Vote::yes);
  khonsu::Transaction unheld = begin(database);
  CHECK(read(unheld, "read") == Values{1});
  CHECK(unheld.prepare("unheld").value() == khonsu::Vote::read_only);

  khonsu::Transaction writer = begin(database);
  CHECK_OK(writer.put("a", batch_of({1})));
  CHECK_OK(writer.put("b", batch_of({1, 2})));
  CHECK_OK(writer.prepare("writer", PrepareFlags::allow_volatile));
  auto list = database.recover();
  if (!CHECK_OK(list) || !CHECK(list.value().size() == 2)) return;
  const khonsu::PreparedTransaction &one = list.value()[0], &two = list.value()[1];
  CHECK(one.global_id == "reader" && one.keys.empty() && one.written_keys == 0);
  CHECK(two.global_id == "writer" && two.written_keys == 2 && two.bytes > 24);
  CHECK(one.prepared_at <= two.prepared_at && two.state == khonsu::PreparedState::prepared);
  std::vector<std::string> keys = two.keys;
  std::sort(keys.begin(), keys.end());
  CHECK((keys == std::vector<std::string>{"a", "b"}));
  CHECK(database.decide_heuristically("writer", khonsu::Decision::commit).value());
  list = database.recover();
  CHECK(list.value().size() == 2 && list.value()[1].state == khonsu::PreparedState::heuristic_commit);
  CHECK(database.rollback_prepared("reader").value());
}

}  // namespace

int main() {
  a_transfer_between_two_databases();
  reports();
  lists_and_held_reads();
  return check::finish("two_phase_commit_test");
}
