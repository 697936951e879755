/* Arrow IPC files: what is written is what is read, in both formats and all compressions; and whatever is wrong with a
 * file gives a status and never a crash. */
#include "c_testing.h"

#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROWS 150

/* Read by AddressSanitizer, when it is there. Damaged files say that they hold more than there is memory; the library
 * asks for it, is refused and says so, which must not end the test. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "allocator_may_return_null=1"; }

static char directory[4096];
static char path[4200];

static void enter_directory(void) {
  const char *temporary = getenv("TMPDIR");
  snprintf(directory, sizeof(directory), "%s/khonsu_ipc_XXXXXX", temporary == NULL ? "/tmp" : temporary);
  if (!CHECK(mkdtemp(directory) != NULL)) exit(EXIT_FAILURE);
  snprintf(path, sizeof(path), "%s/data.arrow", directory);
}

/* Files in the directory, those that writing might have left included. */
static int count_files(void) {
  int count = 0;
  DIR *opened = opendir(directory);
  if (!CHECK(opened != NULL)) return -1;
  for (struct dirent *entry = readdir(opened); entry != NULL; entry = readdir(opened)) {
    if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) count++;
  }
  closedir(opened);
  return count;
}

static void leave_directory(void) {
  unlink(path);
  CHECK(count_files() == 0);
  CHECK(rmdir(directory) == 0);
}

/* `batches` batches of ROWS rows; fail_at as for arrow_testing_stream. */
static void make_stream(struct ArrowArrayStream *stream, int batches, int64_t fail_at) {
  static int64_t ids[ROWS];
  static double amounts[ROWS];
  static const char *labels[ROWS];
  struct ArrowArray arrays[8];
  struct ArrowSchema schema;
  arrow_testing_mixed_batch(NULL, &schema, NULL, NULL, NULL, 0);
  for (int batch = 0; batch < batches; batch++) {
    for (int row = 0; row < ROWS; row++) {
      ids[row] = batch * ROWS + row;
      amounts[row] = ids[row] * 0.5;
      labels[row] = row % 7 == 0 ? NULL : row % 2 == 0 ? "even" : "odd";
    }
    arrow_testing_mixed_batch(&arrays[batch], NULL, ids, amounts, labels, ROWS);
  }
  arrow_testing_stream(stream, &schema, arrays, batches, fail_at);
}

/* Reads a stream to its end; the number of rows that are as make_stream made them, negative when one is not or when the
 * stream fails. */
static int64_t drain_and_compare(struct ArrowArrayStream *stream) {
  struct ArrowSchema schema;
  int64_t rows = 0;
  bool same = stream->get_schema(stream, &schema) == 0;
  if (!same) return -1;
  same = strcmp(schema.format, "+s") == 0 && schema.n_children == 3 && strcmp(schema.children[2]->name, "label") == 0 &&
         strcmp(schema.children[0]->format, "l") == 0 && strcmp(schema.children[1]->format, "g") == 0 &&
         strcmp(schema.children[2]->format, "u") == 0;
  arrow_testing_release_schema(&schema);
  for (;;) {
    struct ArrowArray array;
    if (stream->get_next(stream, &array) != 0) return -1;
    if (array.release == NULL) return same ? rows : -1;
    for (int64_t row = 0; same && row < array.length; row++, rows++) {
      int64_t in_batch = rows % ROWS;
      bool null = in_batch % 7 == 0;
      same = arrow_testing_int64_at(&array, 0, row) == rows && arrow_testing_double_at(&array, 1, row) == rows * 0.5 &&
             arrow_testing_is_null(&array, 2, row) == null &&
             (null || arrow_testing_utf8_equals(&array, 2, row, in_batch % 2 == 0 ? "even" : "odd"));
    }
    arrow_testing_release_array(&array);
  }
}

static void write_file(int batches, int32_t format, int32_t compression) {
  khonsu_error *error = NULL;
  struct ArrowArrayStream stream;
  make_stream(&stream, batches, -1);
  EXPECT_OK(khonsu_ipc_write_stream(path, &stream, format, compression, &error));
  CHECK(stream.release == NULL);
}

static void test_round_trips(void) {
  khonsu_error *error = NULL;
  struct ArrowArrayStream stream;
  enter_directory();
  for (int32_t format = KHONSU_IPC_FORMAT_FILE; format <= KHONSU_IPC_FORMAT_STREAM; format++) {
    int64_t sizes[3] = {0, 0, 0};
    for (int32_t compression = KHONSU_IPC_COMPRESSION_NONE; compression <= KHONSU_IPC_COMPRESSION_ZSTD; compression++) {
      struct stat status;
      for (int batches = 0; batches <= 3; batches++) {
        write_file(batches, format, compression);
        CHECK(count_files() == 1);
        EXPECT_OK(khonsu_ipc_open_stream(path, &stream, &error));
        CHECK(drain_and_compare(&stream) == (int64_t)batches * ROWS);
        arrow_testing_release_stream(&stream);
      }
      CHECK(stat(path, &status) == 0);
      sizes[compression] = status.st_size;
    }
    CHECK(sizes[KHONSU_IPC_COMPRESSION_LZ4] < sizes[KHONSU_IPC_COMPRESSION_NONE]);
    CHECK(sizes[KHONSU_IPC_COMPRESSION_ZSTD] < sizes[KHONSU_IPC_COMPRESSION_NONE]);
  }
  leave_directory();
}

/* From a file into a database and out of it into another file. */
static void test_through_a_database(void) {
  khonsu_error *error = NULL;
  struct ArrowArrayStream stream;
  enter_directory();
  write_file(3, KHONSU_IPC_FORMAT_FILE, KHONSU_IPC_COMPRESSION_ZSTD);
  khonsu_db *db = testing_open();
  khonsu_txn *txn = testing_begin(db);
  EXPECT_OK(khonsu_ipc_open_stream(path, &stream, &error));
  EXPECT_OK(khonsu_txn_put_stream(txn, KEY("table"), &stream, &error));
  EXPECT_OK(khonsu_txn_commit(txn, &error));
  khonsu_txn_free(txn);
  txn = testing_begin(db);
  EXPECT_OK(khonsu_txn_get_stream(txn, KEY("table"), &stream, &error));
  EXPECT_OK(khonsu_ipc_write_stream(path, &stream, KHONSU_IPC_FORMAT_STREAM, KHONSU_IPC_COMPRESSION_LZ4, &error));
  khonsu_txn_free(txn);
  khonsu_db_free(db);
  EXPECT_OK(khonsu_ipc_open_stream(path, &stream, &error));
  CHECK(drain_and_compare(&stream) == 3 * ROWS);
  arrow_testing_release_stream(&stream);
  leave_directory();
}

static void test_a_stream_outlives_the_file(void) {
  khonsu_error *error = NULL;
  struct ArrowArrayStream stream;
  struct ArrowArray array;
  enter_directory();
  write_file(2, KHONSU_IPC_FORMAT_FILE, KHONSU_IPC_COMPRESSION_NONE);
  EXPECT_OK(khonsu_ipc_open_stream(path, &stream, &error));
  CHECK(stream.get_next(&stream, &array) == 0);
  CHECK(unlink(path) == 0); /* an open file is read on */
  arrow_testing_release_stream(&stream);
  if (CHECK(array.release != NULL)) CHECK(arrow_testing_int64_at(&array, 0, ROWS - 1) == ROWS - 1);
  arrow_testing_release_array(&array);
  /* The file may be replaced by what is read from it. */
  write_file(2, KHONSU_IPC_FORMAT_FILE, KHONSU_IPC_COMPRESSION_NONE);
  EXPECT_OK(khonsu_ipc_open_stream(path, &stream, &error));
  EXPECT_OK(khonsu_ipc_write_stream(path, &stream, KHONSU_IPC_FORMAT_FILE, KHONSU_IPC_COMPRESSION_LZ4, &error));
  EXPECT_OK(khonsu_ipc_open_stream(path, &stream, &error));
  CHECK(drain_and_compare(&stream) == 2 * ROWS);
  arrow_testing_release_stream(&stream);
  leave_directory();
}

static void test_missing_files(void) {
  khonsu_error *error = NULL;
  struct ArrowArrayStream stream;
  enter_directory();
  memset(&stream, 0xA5, sizeof(stream));
  EXPECT(KHONSU_STATUS_STORAGE, khonsu_ipc_open_stream(path, &stream, &error));
  CHECK(stream.release == NULL);
  EXPECT(KHONSU_STATUS_STORAGE, khonsu_ipc_open_stream(directory, &stream, &error));
  CHECK(stream.release == NULL);
  CHECK(mkfifo(path, 0600) == 0); /* nobody will write into it, so opening it must not wait for that */
  EXPECT(KHONSU_STATUS_STORAGE, khonsu_ipc_open_stream(path, &stream, &error));
  CHECK(stream.release == NULL && unlink(path) == 0);

  char nowhere[4300];
  snprintf(nowhere, sizeof(nowhere), "%s/missing/data.arrow", directory);
  make_stream(&stream, 1, -1);
  EXPECT(KHONSU_STATUS_STORAGE, khonsu_ipc_write_stream(nowhere, &stream, KHONSU_IPC_FORMAT_FILE,
                                                         KHONSU_IPC_COMPRESSION_NONE, &error));
  CHECK(stream.release == NULL);
  make_stream(&stream, 1, -1); /* a directory cannot be replaced by a file */
  EXPECT(KHONSU_STATUS_STORAGE, khonsu_ipc_write_stream(directory, &stream, KHONSU_IPC_FORMAT_FILE,
                                                         KHONSU_IPC_COMPRESSION_NONE, &error));
  CHECK(stream.release == NULL);
  leave_directory();
}

/* A stream that fails leaves the file that was there as it was, and nothing beside it. */
static void test_failing_writes(void) {
  khonsu_error *error = NULL;
  struct ArrowArrayStream stream;
  enter_directory();
  for (int present = 0; present < 2; present++) {
    if (present) write_file(2, KHONSU_IPC_FORMAT_FILE, KHONSU_IPC_COMPRESSION_NONE);
    for (int32_t format = KHONSU_IPC_FORMAT_FILE; format <= KHONSU_IPC_FORMAT_STREAM; format++) {
      for (int64_t fail_at = 0; fail_at < 3; fail_at++) {
        make_stream(&stream, 3, fail_at);
        EXPECT(KHONSU_STATUS_STORAGE,
               khonsu_ipc_write_stream(path, &stream, format, KHONSU_IPC_COMPRESSION_LZ4, &error));
        CHECK(stream.release == NULL);
        CHECK(count_files() == present);
      }
    }
    if (present) {
      EXPECT_OK(khonsu_ipc_open_stream(path, &stream, &error));
      CHECK(drain_and_compare(&stream) == 2 * ROWS);
      arrow_testing_release_stream(&stream);
    }
  }
  leave_directory();
}

/* ---- damaged files ---- */

static unsigned char *contents;
static size_t contents_size;

static void load_contents(void) {
  FILE *file = fopen(path, "rb");
  if (!CHECK(file != NULL)) exit(EXIT_FAILURE);
  fseek(file, 0, SEEK_END);
  contents_size = (size_t)ftell(file);
  fseek(file, 0, SEEK_SET);
  contents = (unsigned char *)arrow_testing_allocate(contents_size);
  CHECK(fread(contents, 1, contents_size, file) == contents_size);
  fclose(file);
}

static void store(const void *bytes, size_t size) {
  FILE *file = fopen(path, "wb");
  if (!CHECK(file != NULL)) exit(EXIT_FAILURE);
  CHECK(size == 0 || fwrite(bytes, 1, size, file) == size);
  fclose(file);
}

static void store_byte(size_t position, unsigned char byte) {
  FILE *file = fopen(path, "r+b");
  if (!CHECK(file != NULL)) exit(EXIT_FAILURE);
  CHECK(fseek(file, (long)position, SEEK_SET) == 0);
  CHECK(fputc(byte, file) == byte);
  CHECK(fclose(file) == 0);
}

/* Opens and reads whatever is at path. A status or an errno for what is damaged, with a message; never PANIC. Returns the
 * rows read, negative for a failure. */
static int64_t read_damaged(void) {
  khonsu_error *error = NULL;
  struct ArrowArrayStream stream;
  int64_t rows = 0;
  memset(&stream, 0xA5, sizeof(stream));
  khonsu_status status = khonsu_ipc_open_stream(path, &stream, &error);
  if (status != KHONSU_STATUS_OK) {
    testing_check_status(KHONSU_STATUS_CORRUPTION, status, error, __FILE__, __LINE__, "khonsu_ipc_open_stream");
    CHECK(stream.release == NULL);
    khonsu_error_free(error);
    return -1;
  }
  for (int batch = 0;; batch++) {
    struct ArrowArray array;
    int code = stream.get_next(&stream, &array);
    if (code != 0) {
      const char *message = stream.get_last_error(&stream);
      CHECK(code == EINVAL);
      CHECK(message != NULL && message[0] != '\0');
      rows = -1;
      break;
    }
    if (array.release == NULL || !CHECK(batch < 1000)) break;
    /* Every value may be looked at: what it is nobody knows, but it is there. */
    if (array.n_children == 3 && array.length > 0 && array.children[0]->n_buffers == 2) {
      rows += array.length;
    }
    arrow_testing_release_array(&array);
  }
  arrow_testing_release_stream(&stream);
  return rows;
}

static void test_truncated_files(void) {
  enter_directory();
  for (int32_t format = KHONSU_IPC_FORMAT_FILE; format <= KHONSU_IPC_FORMAT_STREAM; format++) {
    for (int32_t compression = KHONSU_IPC_COMPRESSION_NONE; compression <= KHONSU_IPC_COMPRESSION_ZSTD; compression++) {
      write_file(2, format, compression);
      load_contents();
      CHECK(read_damaged() == 2 * ROWS);
      /* Shorter and shorter, in small steps at both ends. */
      size_t size = contents_size - 1;
      while (size > 0) {
        CHECK(truncate(path, (off_t)size) == 0);
        int64_t rows = read_damaged();
        /* A file without its footer is damaged. A stream may end early, at a batch. */
        if (format == KHONSU_IPC_FORMAT_FILE) {
          CHECK(rows < 0);
        } else {
          CHECK(rows < 0 || rows % ROWS == 0);
        }
        size_t step = size < 600 || size + 600 > contents_size ? 7 : 97;
        size = size > step ? size - step : 0;
      }
      free(contents);
    }
  }
  store("", 0);
  CHECK(read_damaged() < 0);
  store("ARROW1", 6);
  CHECK(read_damaged() < 0);
  store("this is no Arrow file, but a line of text that goes on for a while\n", 67);
  CHECK(read_damaged() < 0);
  leave_directory();
}

static void test_flipped_bits(void) {
  enter_directory();
  for (int32_t format = KHONSU_IPC_FORMAT_FILE; format <= KHONSU_IPC_FORMAT_STREAM; format++) {
    for (int32_t compression = KHONSU_IPC_COMPRESSION_NONE; compression <= KHONSU_IPC_COMPRESSION_ZSTD; compression++) {
      write_file(1, format, compression);
      load_contents();
      int64_t refused = 0;
      for (size_t position = 0; position < contents_size;
           position += position < 1000 || position + 1000 > contents_size ? 5 : 61) {
        unsigned char was = contents[position];
        store_byte(position, (unsigned char)(was ^ (1u << (position % 8))));
        refused += read_damaged() < 0;
        store_byte(position, 0xff);
        refused += read_damaged() < 0;
        store_byte(position, was);
      }
      CHECK(refused > 0);
      free(contents);
    }
  }
  leave_directory();
}

int main(void) {
  RUN(test_round_trips);
  RUN(test_through_a_database);
  RUN(test_a_stream_outlives_the_file);
  RUN(test_missing_files);
  RUN(test_failing_writes);
  RUN(test_truncated_files);
  RUN(test_flipped_bits);
  return testing_finish("ipc_test");
}
