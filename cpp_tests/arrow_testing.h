/* Hand-built Arrow data for the C and C++ tests (C99, C++17): int64, double and utf8 columns, record batches,
 * schemas and streams over the Arrow C Data Interface, with the number of unreleased ones counted.
 *
 * Every builder writes a struct that the caller then owns; structs passed in as children are moved (their release
 * becomes NULL). Allocation failure aborts. The counts are per translation unit and may be used from any thread. */
#ifndef KHONSU_ARROW_TESTING_H
#define KHONSU_ARROW_TESTING_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef ARROW_C_DATA_INTERFACE
#define ARROW_C_DATA_INTERFACE

#define ARROW_FLAG_DICTIONARY_ORDERED 1
#define ARROW_FLAG_NULLABLE 2
#define ARROW_FLAG_MAP_KEYS_SORTED 4

struct ArrowSchema {
  const char *format;
  const char *name;
  const char *metadata;
  int64_t flags;
  int64_t n_children;
  struct ArrowSchema **children;
  struct ArrowSchema *dictionary;
  void (*release)(struct ArrowSchema *);
  void *private_data;
};

struct ArrowArray {
  int64_t length;
  int64_t null_count;
  int64_t offset;
  int64_t n_buffers;
  int64_t n_children;
  const void **buffers;
  struct ArrowArray **children;
  struct ArrowArray *dictionary;
  void (*release)(struct ArrowArray *);
  void *private_data;
};

#endif /* ARROW_C_DATA_INTERFACE */

#ifndef ARROW_C_STREAM_INTERFACE
#define ARROW_C_STREAM_INTERFACE

struct ArrowArrayStream {
  int (*get_schema)(struct ArrowArrayStream *, struct ArrowSchema *out);
  int (*get_next)(struct ArrowArrayStream *, struct ArrowArray *out);
  const char *(*get_last_error)(struct ArrowArrayStream *);
  void (*release)(struct ArrowArrayStream *);
  void *private_data;
};

#endif /* ARROW_C_STREAM_INTERFACE */

/* ---- counts ---- */

static int64_t arrow_testing_arrays = 0;
static int64_t arrow_testing_schemas = 0;
static int64_t arrow_testing_streams = 0;

/* Arrays (children counted, too), schemas and streams built here and not yet released. */
static inline int64_t arrow_testing_live_arrays(void) {
  return __atomic_load_n(&arrow_testing_arrays, __ATOMIC_SEQ_CST);
}
static inline int64_t arrow_testing_live_schemas(void) {
  return __atomic_load_n(&arrow_testing_schemas, __ATOMIC_SEQ_CST);
}
static inline int64_t arrow_testing_live_streams(void) {
  return __atomic_load_n(&arrow_testing_streams, __ATOMIC_SEQ_CST);
}

/* Zeroed memory; never NULL. */
static inline void *arrow_testing_allocate(size_t bytes) {
  void *memory = calloc(1, bytes == 0 ? 1 : bytes);
  if (memory == NULL) abort();
  return memory;
}

static inline char *arrow_testing_copy_text(const char *text) {
  size_t bytes = strlen(text) + 1;
  char *copy = (char *)arrow_testing_allocate(bytes);
  memcpy(copy, text, bytes);
  return copy;
}

/* ---- release: NULL, zeroed and already released structs are fine ---- */

static inline void arrow_testing_release_array(struct ArrowArray *array) {
  if (array != NULL && array->release != NULL) array->release(array);
}
static inline void arrow_testing_release_schema(struct ArrowSchema *schema) {
  if (schema != NULL && schema->release != NULL) schema->release(schema);
}
static inline void arrow_testing_release_stream(struct ArrowArrayStream *stream) {
  if (stream != NULL && stream->release != NULL) stream->release(stream);
}

/* ---- arrays ---- */

/* The release callback of every array built here: owns the buffers and the child structs. */
static inline void arrow_testing_array_release(struct ArrowArray *array) {
  for (int64_t i = 0; i < array->n_buffers; i++) free((void *)(uintptr_t)array->buffers[i]);
  for (int64_t i = 0; i < array->n_children; i++) {
    arrow_testing_release_array(array->children[i]);
    free(array->children[i]);
  }
  free(array->buffers);
  free(array->children);
  array->release = NULL;
  __atomic_fetch_sub(&arrow_testing_arrays, 1, __ATOMIC_SEQ_CST);
}

static inline void arrow_testing_array_new(struct ArrowArray *out, int64_t length, int64_t n_buffers,
                                           int64_t n_children) {
  memset(out, 0, sizeof(*out));
  out->length = length;
  out->n_buffers = n_buffers;
  out->n_children = n_children;
  out->buffers = (const void **)arrow_testing_allocate((size_t)n_buffers * sizeof(void *));
  if (n_children > 0) {
    out->children = (struct ArrowArray **)arrow_testing_allocate((size_t)n_children * sizeof(struct ArrowArray *));
  }
  out->release = arrow_testing_array_release;
  __atomic_fetch_add(&arrow_testing_arrays, 1, __ATOMIC_SEQ_CST);
}

/* Sets the validity bitmap from one byte a row (0 = null); NULL: all rows are valid and there is no bitmap. */
static inline void arrow_testing_set_validity(struct ArrowArray *array, const unsigned char *valid) {
  if (valid == NULL) return;
  unsigned char *bits = (unsigned char *)arrow_testing_allocate(((size_t)array->length + 7) / 8);
  array->null_count = 0;
  for (int64_t row = 0; row < array->length; row++) {
    if (valid[row]) {
      bits[row / 8] = (unsigned char)(bits[row / 8] | (1u << (row % 8)));
    } else {
      array->null_count++;
    }
  }
  array->buffers[0] = bits;
}

static inline void arrow_testing_fixed(struct ArrowArray *out, const void *values, size_t width,
                                       const unsigned char *valid, int64_t length) {
  arrow_testing_array_new(out, length, 2, 0);
  void *data = arrow_testing_allocate((size_t)length * width);
  if (length > 0) memcpy(data, values, (size_t)length * width);
  out->buffers[1] = data;
  arrow_testing_set_validity(out, valid);
}

/* An int64 column (format "l"). */
static inline void arrow_testing_int64(struct ArrowArray *out, const int64_t *values, const unsigned char *valid,
                                       int64_t length) {
  arrow_testing_fixed(out, values, sizeof(int64_t), valid, length);
}

/* A float64 column (format "g"). */
static inline void arrow_testing_double(struct ArrowArray *out, const double *values, const unsigned char *valid,
                                        int64_t length) {
  arrow_testing_fixed(out, values, sizeof(double), valid, length);
}

/* A utf8 column (format "u") of C strings; a NULL string is a null. */
static inline void arrow_testing_utf8(struct ArrowArray *out, const char *const *values, int64_t length) {
  arrow_testing_array_new(out, length, 3, 0);
  int32_t *offsets = (int32_t *)arrow_testing_allocate(((size_t)length + 1) * sizeof(int32_t));
  unsigned char *valid = (unsigned char *)arrow_testing_allocate((size_t)length);
  int has_null = 0;
  for (int64_t row = 0; row < length; row++) {
    valid[row] = values[row] != NULL;
    has_null |= values[row] == NULL;
    offsets[row + 1] = offsets[row] + (values[row] == NULL ? 0 : (int32_t)strlen(values[row]));
  }
  char *data = (char *)arrow_testing_allocate((size_t)offsets[length]);
  for (int64_t row = 0; row < length; row++) {
    if (valid[row]) memcpy(data + offsets[row], values[row], (size_t)(offsets[row + 1] - offsets[row]));
  }
  out->buffers[1] = offsets;
  out->buffers[2] = data;
  arrow_testing_set_validity(out, has_null ? valid : NULL);
  free(valid);
}

/* A struct array, which is what a record batch is; the children are moved. */
static inline void arrow_testing_struct(struct ArrowArray *out, int64_t length, int64_t n_children,
                                        struct ArrowArray *children) {
  arrow_testing_array_new(out, length, 1, n_children);
  for (int64_t i = 0; i < n_children; i++) {
    out->children[i] = (struct ArrowArray *)arrow_testing_allocate(sizeof(struct ArrowArray));
    *out->children[i] = children[i];
    children[i].release = NULL;
  }
}

/* ---- schemas ---- */

static inline void arrow_testing_schema_release(struct ArrowSchema *schema) {
  free((void *)(uintptr_t)schema->format);
  free((void *)(uintptr_t)schema->name);
  free((void *)(uintptr_t)schema->metadata);
  for (int64_t i = 0; i < schema->n_children; i++) {
    arrow_testing_release_schema(schema->children[i]);
    free(schema->children[i]);
  }
  free(schema->children);
  schema->release = NULL;
  __atomic_fetch_sub(&arrow_testing_schemas, 1, __ATOMIC_SEQ_CST);
}

/* One field: format is Arrow's format string ("l" int64, "g" float64, "u" utf8, "+s" struct). */
static inline void arrow_testing_field(struct ArrowSchema *out, const char *format, const char *name, int nullable) {
  memset(out, 0, sizeof(*out));
  out->format = arrow_testing_copy_text(format);
  out->name = arrow_testing_copy_text(name);
  out->flags = nullable ? ARROW_FLAG_NULLABLE : 0;
  out->release = arrow_testing_schema_release;
  __atomic_fetch_add(&arrow_testing_schemas, 1, __ATOMIC_SEQ_CST);
}

/* The schema of a record batch; the fields are moved. */
static inline void arrow_testing_struct_schema(struct ArrowSchema *out, int64_t n_children,
                                               struct ArrowSchema *children) {
  arrow_testing_field(out, "+s", "", 0);
  out->n_children = n_children;
  if (n_children == 0) return;
  out->children = (struct ArrowSchema **)arrow_testing_allocate((size_t)n_children * sizeof(struct ArrowSchema *));
  for (int64_t i = 0; i < n_children; i++) {
    out->children[i] = (struct ArrowSchema *)arrow_testing_allocate(sizeof(struct ArrowSchema));
    *out->children[i] = children[i];
    children[i].release = NULL;
  }
}

/* Sets metadata of one pair on a schema or field built here. */
static inline void arrow_testing_set_metadata(struct ArrowSchema *schema, const char *key, const char *value) {
  int32_t counts[3] = {1, (int32_t)strlen(key), (int32_t)strlen(value)};
  size_t key_bytes = (size_t)counts[1], value_bytes = (size_t)counts[2];
  char *metadata = (char *)arrow_testing_allocate(sizeof(counts) + key_bytes + value_bytes);
  memcpy(metadata, counts, 8);
  memcpy(metadata + 8, key, key_bytes);
  memcpy(metadata + 8 + key_bytes, &counts[2], 4);
  memcpy(metadata + 12 + key_bytes, value, value_bytes);
  free((void *)(uintptr_t)schema->metadata);
  schema->metadata = metadata;
}

/* ---- record batches ready for use ---- */

/* One int64 column called name; array or schema may be NULL when it is not wanted. */
static inline void arrow_testing_int64_batch(struct ArrowArray *array, struct ArrowSchema *schema, const char *name,
                                             const int64_t *values, int64_t length) {
  if (array != NULL) {
    struct ArrowArray column;
    arrow_testing_int64(&column, values, NULL, length);
    arrow_testing_struct(array, length, 1, &column);
  }
  if (schema != NULL) {
    struct ArrowSchema field;
    arrow_testing_field(&field, "l", name, 1);
    arrow_testing_struct_schema(schema, 1, &field);
  }
}

/* Columns "id" int64, "amount" float64 and "label" utf8 (a NULL label is a null); array or schema may be NULL. */
static inline void arrow_testing_mixed_batch(struct ArrowArray *array, struct ArrowSchema *schema, const int64_t *ids,
                                             const double *amounts, const char *const *labels, int64_t length) {
  if (array != NULL) {
    struct ArrowArray columns[3];
    arrow_testing_int64(&columns[0], ids, NULL, length);
    arrow_testing_double(&columns[1], amounts, NULL, length);
    arrow_testing_utf8(&columns[2], labels, length);
    arrow_testing_struct(array, length, 3, columns);
  }
  if (schema != NULL) {
    struct ArrowSchema fields[3];
    arrow_testing_field(&fields[0], "l", "id", 1);
    arrow_testing_field(&fields[1], "g", "amount", 1);
    arrow_testing_field(&fields[2], "u", "label", 1);
    arrow_testing_struct_schema(schema, 3, fields);
  }
}

/* ---- reading a batch: offsets of the batch and of the column are honoured ---- */

static inline int64_t arrow_testing_position(const struct ArrowArray *batch, int64_t column, int64_t row) {
  return batch->offset + batch->children[column]->offset + row;
}

static inline int arrow_testing_is_null(const struct ArrowArray *batch, int64_t column, int64_t row) {
  const unsigned char *bits = (const unsigned char *)batch->children[column]->buffers[0];
  int64_t position = arrow_testing_position(batch, column, row);
  return bits != NULL && ((bits[position / 8] >> (position % 8)) & 1) == 0;
}

static inline int64_t arrow_testing_int64_at(const struct ArrowArray *batch, int64_t column, int64_t row) {
  const int64_t *values = (const int64_t *)batch->children[column]->buffers[1];
  return values[arrow_testing_position(batch, column, row)];
}

static inline double arrow_testing_double_at(const struct ArrowArray *batch, int64_t column, int64_t row) {
  const double *values = (const double *)batch->children[column]->buffers[1];
  return values[arrow_testing_position(batch, column, row)];
}

/* Whether the utf8 value is exactly expected. */
static inline int arrow_testing_utf8_equals(const struct ArrowArray *batch, int64_t column, int64_t row,
                                            const char *expected) {
  const int32_t *offsets = (const int32_t *)batch->children[column]->buffers[1];
  const char *data = (const char *)batch->children[column]->buffers[2];
  int64_t position = arrow_testing_position(batch, column, row);
  size_t bytes = (size_t)(offsets[position + 1] - offsets[position]);
  return bytes == strlen(expected) && (bytes == 0 || memcmp(data + offsets[position], expected, bytes) == 0);
}

/* Whether the binary value (format "z"; utf8 has the same layout) is exactly these bytes. */
static inline int arrow_testing_binary_equals(const struct ArrowArray *batch, int64_t column, int64_t row,
                                              const void *expected, size_t expected_bytes) {
  const int32_t *offsets = (const int32_t *)batch->children[column]->buffers[1];
  const char *data = (const char *)batch->children[column]->buffers[2];
  int64_t position = arrow_testing_position(batch, column, row);
  size_t bytes = (size_t)(offsets[position + 1] - offsets[position]);
  return bytes == expected_bytes && (bytes == 0 || memcmp(data + offsets[position], expected, bytes) == 0);
}

/* Sum of the values of an int64 column that are not null. */
static inline int64_t arrow_testing_int64_sum(const struct ArrowArray *batch, int64_t column) {
  int64_t sum = 0;
  for (int64_t row = 0; row < batch->length; row++) {
    if (!arrow_testing_is_null(batch, column, row)) sum += arrow_testing_int64_at(batch, column, row);
  }
  return sum;
}

/* ---- streams ---- */

struct arrow_testing_stream_state {
  struct ArrowSchema schema;
  struct ArrowArray *arrays;
  int64_t count;
  int64_t next;
  int64_t fail_at; /* get_next fails with EIO (5) at this index; negative: never */
};

static inline void arrow_testing_copy_schema(struct ArrowSchema *out, const struct ArrowSchema *from) {
  arrow_testing_field(out, from->format, from->name, 0);
  out->flags = from->flags;
  out->n_children = from->n_children;
  if (from->n_children == 0) return;
  out->children =
      (struct ArrowSchema **)arrow_testing_allocate((size_t)from->n_children * sizeof(struct ArrowSchema *));
  for (int64_t i = 0; i < from->n_children; i++) {
    out->children[i] = (struct ArrowSchema *)arrow_testing_allocate(sizeof(struct ArrowSchema));
    arrow_testing_copy_schema(out->children[i], from->children[i]);
  }
}

static inline int arrow_testing_stream_schema(struct ArrowArrayStream *stream, struct ArrowSchema *out) {
  struct arrow_testing_stream_state *state = (struct arrow_testing_stream_state *)stream->private_data;
  arrow_testing_copy_schema(out, &state->schema);
  return 0;
}

static inline int arrow_testing_stream_next(struct ArrowArrayStream *stream, struct ArrowArray *out) {
  struct arrow_testing_stream_state *state = (struct arrow_testing_stream_state *)stream->private_data;
  memset(out, 0, sizeof(*out));
  if (state->next == state->fail_at) return 5;
  if (state->next == state->count) return 0;
  *out = state->arrays[state->next];
  state->arrays[state->next].release = NULL;
  state->next++;
  return 0;
}

static inline const char *arrow_testing_stream_error(struct ArrowArrayStream *stream) {
  struct arrow_testing_stream_state *state = (struct arrow_testing_stream_state *)stream->private_data;
  return state->next == state->fail_at ? "the stream failed as it was told to" : NULL;
}

static inline void arrow_testing_stream_release(struct ArrowArrayStream *stream) {
  struct arrow_testing_stream_state *state = (struct arrow_testing_stream_state *)stream->private_data;
  arrow_testing_release_schema(&state->schema);
  for (int64_t i = 0; i < state->count; i++) arrow_testing_release_array(&state->arrays[i]);
  free(state->arrays);
  free(state);
  stream->release = NULL;
  __atomic_fetch_sub(&arrow_testing_streams, 1, __ATOMIC_SEQ_CST);
}

/* A stream that gives the arrays in turn; schema and arrays are moved. It fails with EIO instead of giving array
 * number fail_at (negative: never). Metadata of the schema is not carried. */
static inline void arrow_testing_stream(struct ArrowArrayStream *out, struct ArrowSchema *schema,
                                        struct ArrowArray *arrays, int64_t count, int64_t fail_at) {
  struct arrow_testing_stream_state *state =
      (struct arrow_testing_stream_state *)arrow_testing_allocate(sizeof(struct arrow_testing_stream_state));
  state->schema = *schema;
  schema->release = NULL;
  state->arrays = (struct ArrowArray *)arrow_testing_allocate((size_t)count * sizeof(struct ArrowArray));
  for (int64_t i = 0; i < count; i++) {
    state->arrays[i] = arrays[i];
    arrays[i].release = NULL;
  }
  state->count = count;
  state->fail_at = fail_at;
  memset(out, 0, sizeof(*out));
  out->get_schema = arrow_testing_stream_schema;
  out->get_next = arrow_testing_stream_next;
  out->get_last_error = arrow_testing_stream_error;
  out->release = arrow_testing_stream_release;
  out->private_data = state;
  __atomic_fetch_add(&arrow_testing_streams, 1, __ATOMIC_SEQ_CST);
}

#endif /* KHONSU_ARROW_TESTING_H */
