#include "check.hpp"

khonsu::Result<void> put_from_the_other_unit(khonsu::Transaction &transaction, khonsu::Bytes key) {
  return transaction.put(key, batch_of({7}));
}
