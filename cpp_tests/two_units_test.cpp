// Two translation units that include khonsu.hpp make one program: everything in it is inline.
#include "check.hpp"

// In the other unit.
khonsu::Result<void> put_from_the_other_unit(khonsu::Transaction &transaction, khonsu::Bytes key);

int main() {
  khonsu::Database database = std::move(khonsu::Database::open()).value();
  CHECK_OK(database.transact(
      [](khonsu::Transaction &transaction) { return put_from_the_other_unit(transaction, "key"); }));
  khonsu::Transaction transaction = std::move(database.begin()).value();
  CHECK(read(transaction, "key") == Values{7});
  return check::finish("two_units_test");
}
