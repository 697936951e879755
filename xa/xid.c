#include "xid.h"

#include <limits.h>
#include <string.h>

/* A global id is: the mark, a byte for each length, formatID in 8 bytes (two's complement, big-endian), then gtrid and
 * bqual. Each field has its place and the whole its length, so that different XIDs have different ids, and decoding
 * accepts what encoding gives and nothing else. */
static const uint8_t mark[6] = {'x', 'a', '-', 'x', 'i', 'd'};

enum { gtrid_length_at = 6, bqual_length_at = 7, format_at = 8, data_at = 16 };

/* Fails to compile where the longest XID does not fit. */
typedef char longest_xid_fits[data_at + XIDDATASIZE <= KHONSU_XA_GLOBAL_ID_MAX_BYTES ? 1 : -1];

bool xid_is_valid(const XID *xid) {
  /* The specification asks for 1 to 64 bytes of each; transaction managers that qualify no branches leave bqual empty. */
  return xid->formatID != -1 && xid->gtrid_length >= 1 && xid->gtrid_length <= MAXGTRIDSIZE &&
         xid->bqual_length >= 0 && xid->bqual_length <= MAXBQUALSIZE;
}

bool xid_equals(const XID *a, const XID *b) {
  return a->formatID == b->formatID && a->gtrid_length == b->gtrid_length && a->bqual_length == b->bqual_length &&
         memcmp(a->data, b->data, (size_t)(a->gtrid_length + a->bqual_length)) == 0;
}

/* FNV-1a over the global id. */
uint64_t xid_hash(const XID *xid) {
  uint8_t id[KHONSU_XA_GLOBAL_ID_MAX_BYTES];
  size_t len = xid_to_global_id(xid, id);
  uint64_t hash = UINT64_C(0xcbf29ce484222325);
  for (size_t i = 0; i < len; i++) hash = (hash ^ id[i]) * UINT64_C(0x100000001b3);
  return hash;
}

size_t xid_to_global_id(const XID *xid, uint8_t *global_id) {
  size_t data_len = (size_t)(xid->gtrid_length + xid->bqual_length);
  uint64_t format = (uint64_t)(int64_t)xid->formatID;
  memcpy(global_id, mark, sizeof(mark));
  global_id[gtrid_length_at] = (uint8_t)xid->gtrid_length;
  global_id[bqual_length_at] = (uint8_t)xid->bqual_length;
  for (int i = 0; i < 8; i++) global_id[format_at + i] = (uint8_t)(format >> (56 - 8 * i));
  memcpy(global_id + data_at, xid->data, data_len);
  return data_at + data_len;
}

bool xid_from_global_id(const void *global_id, size_t len, XID *xid) {
  const uint8_t *id = (const uint8_t *)global_id;
  XID decoded;
  uint64_t bits = 0;
  if (len < data_at || len > KHONSU_XA_GLOBAL_ID_MAX_BYTES || memcmp(id, mark, sizeof(mark)) != 0) return false;
  for (int i = 0; i < 8; i++) bits = bits << 8 | id[format_at + i];
  /* Two's complement without a conversion that C leaves to the implementation. */
  int64_t format = bits <= INT64_MAX ? (int64_t)bits : -(int64_t)(UINT64_MAX - bits) - 1;
  if (format < LONG_MIN || format > LONG_MAX) return false;
  memset(&decoded, 0, sizeof(decoded));
  decoded.formatID = (long)format;
  decoded.gtrid_length = id[gtrid_length_at];
  decoded.bqual_length = id[bqual_length_at];
  if (!xid_is_valid(&decoded)) return false;
  if (len != data_at + (size_t)(decoded.gtrid_length + decoded.bqual_length)) return false;
  memcpy(decoded.data, id + data_at, len - data_at);
  *xid = decoded;
  return true;
}
