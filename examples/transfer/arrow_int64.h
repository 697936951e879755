/* The structs of the Arrow C Data Interface, as its specification gives them, and batches of one int64 value. */
#ifndef ARROW_INT64_H
#define ARROW_INT64_H

#include <stdint.h>
#include <stdlib.h>

#ifndef ARROW_C_DATA_INTERFACE
#define ARROW_C_DATA_INTERFACE
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
#endif

/* Its members are static, so there is nothing to free. */
static void release_static_schema(struct ArrowSchema *schema) { schema->release = NULL; }

/* The schema of a batch with one int64 column, whose name must outlive the schema. Not for two threads at once. */
static struct ArrowSchema int64_schema(const char *name) {
  static struct ArrowSchema column;
  static struct ArrowSchema *columns[] = {&column};
  struct ArrowSchema schema = {"+s", "", NULL, 0, 1, columns, NULL, release_static_schema, NULL};
  struct ArrowSchema filled = {"l", name, NULL, 0, 0, NULL, NULL, release_static_schema, NULL};
  column = filled;
  return schema;
}

/* A column with its buffers behind it in one allocation, and the batch around it in another. */
struct int64_column {
  const void *buffers[2];
  int64_t value;
};
struct int64_batch {
  const void *buffers[1];
  struct ArrowArray column;
  struct ArrowArray *columns[1];
};

static void release_int64_column(struct ArrowArray *column) {
  free(column->private_data);
  column->release = NULL;
}

static void release_int64_batch(struct ArrowArray *batch) {
  struct int64_batch *parts = batch->private_data;
  if (parts->column.release != NULL) { /* a consumer may have moved it out */
    parts->column.release(&parts->column);
  }
  free(parts);
  batch->release = NULL;
}

/* A batch of one row; its release is NULL when memory is short, and khonsu then says INVALID_ARGUMENT. */
static struct ArrowArray int64_batch(int64_t value) {
  struct ArrowArray batch = {1, 0, 0, 1, 1, NULL, NULL, NULL, NULL, NULL};
  struct ArrowArray column = {1, 0, 0, 2, 0, NULL, NULL, NULL, release_int64_column, NULL};
  struct int64_batch *parts = calloc(1, sizeof *parts);
  struct int64_column *values = calloc(1, sizeof *values);
  if (parts == NULL || values == NULL) {
    free(parts);
    free(values);
    return batch;
  }
  values->value = value;
  values->buffers[1] = &values->value; /* buffer 0, the null bitmap, is absent: nothing is null */
  column.buffers = values->buffers;
  column.private_data = values;
  parts->column = column;
  parts->columns[0] = &parts->column;
  batch.buffers = parts->buffers;
  batch.children = parts->columns;
  batch.private_data = parts;
  batch.release = release_int64_batch;
  return batch;
}

/* The value of the first row. */
static int64_t int64_of(const struct ArrowArray *batch) {
  const struct ArrowArray *column = batch->children[0];
  return ((const int64_t *)column->buffers[1])[batch->offset + column->offset];
}

#endif
