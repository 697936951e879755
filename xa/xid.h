/* XIDs: what makes one valid, and the global ids of khonsu that they become. */
#ifndef KHONSU_XA_XID_H
#define KHONSU_XA_XID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "khonsu_xa.h"

/* Not the null XID, and its lengths are in range. */
bool xid_is_valid(const XID *xid);

/* Whether two valid XIDs are the same: format, lengths, and the bytes that the lengths cover. */
bool xid_equals(const XID *a, const XID *b);

/* Of a valid XID. */
uint64_t xid_hash(const XID *xid);

/* Writes the global id of a valid XID, at most KHONSU_XA_GLOBAL_ID_MAX_BYTES bytes, and returns their number. */
size_t xid_to_global_id(const XID *xid, uint8_t *global_id);

/* False, and *xid is as before, where the bytes are not the global id of an XID. */
bool xid_from_global_id(const void *global_id, size_t len, XID *xid);

#endif
