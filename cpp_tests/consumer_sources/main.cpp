// A C++ program that uses an installed khonsu: one transaction by transact.
#include <khonsu.hpp>

#include <iostream>

int main() {
  khonsu::Result<khonsu::Database> database = khonsu::Database::open();
  if (!database.ok()) {
    std::cerr << database.error().to_string() << '\n';
    return 1;
  }
  khonsu::Result<bool> exists =
      database.value().transact([](khonsu::Transaction &transaction) { return transaction.exists("key"); });
  if (!exists.ok() || exists.value() || khonsu::version() != KHONSU_VERSION_STRING) {
    std::cerr << "unexpected: " << (exists.ok() ? "a key or a version" : exists.error().to_string()) << '\n';
    return 1;
  }
  std::cout << "khonsu " << khonsu::version() << " from C++\n";
  return 0;
}
