#include "information.h"

#include <stdio.h>
#include <string.h>

struct choice {
  const char *name;
  int32_t value;
};

static const struct choice isolations[] = {{"serializable", KHONSU_ISOLATION_SERIALIZABLE},
                                           {"repeatable_read", KHONSU_ISOLATION_REPEATABLE_READ},
                                           {"read_committed", KHONSU_ISOLATION_READ_COMMITTED},
                                           {NULL, 0}};
static const struct choice durabilities[] = {{"synced", KHONSU_DURABILITY_SYNCED},
                                             {"buffered", KHONSU_DURABILITY_BUFFERED},
                                             {"none", KHONSU_DURABILITY_NONE},
                                             {NULL, 0}};
static const struct choice conflict_resolutions[] = {{"fail", KHONSU_CONFLICT_RESOLUTION_FAIL},
                                                     {"ignore", KHONSU_CONFLICT_RESOLUTION_IGNORE},
                                                     {"replace", KHONSU_CONFLICT_RESOLUTION_REPLACE},
                                                     {"append", KHONSU_CONFLICT_RESOLUTION_APPEND},
                                                     {NULL, 0}};
static const struct choice truths[] = {{"0", 0}, {"1", 1}, {NULL, 0}};

bool information_fits(const char *text) { return memchr(text, '\0', MAXINFOSIZE) != NULL; }

static bool choose(const struct choice *choices, const char *name, int32_t *value) {
  for (; choices->name != NULL; choices++) {
    if (strcmp(choices->name, name) == 0) {
      *value = choices->value;
      return true;
    }
  }
  return false;
}

static bool parse_number(const char *text, uint64_t *number) {
  uint64_t parsed = 0;
  if (*text == '\0') return false;
  for (; *text != '\0'; text++) {
    if (*text < '0' || *text > '9') return false;
    uint64_t digit = (uint64_t)(*text - '0');
    if (parsed > (UINT64_MAX - digit) / 10) return false;
    parsed = parsed * 10 + digit;
  }
  *number = parsed;
  return true;
}

/* Copies text up to one of the bytes in ends, or its end, without the backslashes, and gives where it stopped; NULL
 * where a backslash is the last byte. What fits into MAXINFOSIZE fits into out. */
static const char *take(const char *text, const char *ends, char *out) {
  while (*text != '\0' && strchr(ends, *text) == NULL) {
    if (*text == '\\' && *++text == '\0') return NULL;
    *out++ = *text++;
  }
  *out = '\0';
  return text;
}

enum name { path, in_memory, isolation, durability, conflict_resolution, max_transaction_bytes, hold_reads, names };

static const char *const name_texts[names] = {
    "path", "in_memory", "isolation", "durability", "conflict_resolution", "max_transaction_bytes", "hold_reads"};

static bool set(struct information *information, enum name name, const char *value) {
  int32_t truth = 0;
  switch (name) {
    case path:
      memcpy(information->path, value, strlen(value) + 1);
      return *value != '\0';
    case in_memory:
      memcpy(information->in_memory, value, strlen(value) + 1);
      return *value != '\0';
    case isolation: return choose(isolations, value, &information->isolation);
    case durability: return choose(durabilities, value, &information->durability);
    case conflict_resolution: return choose(conflict_resolutions, value, &information->conflict_resolution);
    case max_transaction_bytes: return parse_number(value, &information->max_transaction_bytes);
    case hold_reads:
      if (!choose(truths, value, &truth)) return false;
      information->hold_reads = truth == 1;
      return true;
    case names: break;
  }
  return false;
}

bool information_parse(const char *text, struct information *information, char *message, size_t message_size) {
  bool seen[names] = {false};
  memset(information, 0, sizeof(*information));
  for (;;) {
    char name_text[MAXINFOSIZE], value[MAXINFOSIZE];
    int name = 0;
    if ((text = take(text, "=,", name_text)) == NULL || *text != '=') {
      snprintf(message, message_size, "xa_open: the information string has an entry that is not name=value");
      return false;
    }
    while (name < names && strcmp(name_texts[name], name_text) != 0) name++;
    if (name == names) {
      snprintf(message, message_size, "xa_open: the information string has an unknown name: %s", name_text);
      return false;
    }
    if (seen[name]) {
      snprintf(message, message_size, "xa_open: the information string has %s twice", name_text);
      return false;
    }
    seen[name] = true;
    if ((text = take(text + 1, ",", value)) == NULL) {
      snprintf(message, message_size, "xa_open: the information string ends with a backslash");
      return false;
    }
    if (!set(information, (enum name)name, value)) {
      snprintf(message, message_size, "xa_open: the information string has a value for %s that is none: \"%s\"",
               name_text, value);
      return false;
    }
    if (*text == '\0') break;
    text++;
  }
  if (seen[path] == seen[in_memory]) {
    snprintf(message, message_size, "xa_open: the information string needs path or in_memory, and not both");
    return false;
  }
  return true;
}
