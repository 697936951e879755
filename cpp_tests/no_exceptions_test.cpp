// The whole of khonsu.hpp but the throwing form works with -fno-exceptions -fno-rtti.
#include "check.hpp"

static_assert(KHONSU_HPP_EXCEPTIONS == 0, "this test is compiled without exceptions");

int main() {
  khonsu::Database database = std::move(khonsu::Database::open()).value();
  auto committed = database.transact([](khonsu::Transaction &transaction) -> khonsu::Result<int> {
    auto put = transaction.put("key", batch_of({1, 2}));
    if (!put.ok()) return std::move(put).error();
    return 3;
  });
  CHECK(CHECK_OK(committed) && committed.value() == 3);
  auto failed = database.transact([](khonsu::Transaction &transaction) { return transaction.put("", batch_of({1})); });
  CHECK_FAILS(invalid_argument, failed);
  khonsu::Transaction transaction = std::move(database.begin()).value();
  CHECK(read(transaction, "key") == (Values{1, 2}));
  auto cursor = transaction.scan();
  int entries = 0;
  CHECK(CHECK_OK(cursor) && cursor.value().for_each([&](std::string_view, khonsu::Batch) { ++entries; }).ok());
  CHECK(entries == 1);
  CHECK_OK(transaction.commit());
  return check::finish("no_exceptions_test");
}
