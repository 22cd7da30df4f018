/* The log of a program: one line an event, on standard error or in the journal. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum log_level {
        LOG_LEVEL_ERROR,
        LOG_LEVEL_WARN,
        LOG_LEVEL_INFO,
        LOG_LEVEL_DEBUG,
        LOG_LEVEL_AUDIT, /* who did what: logged at every level that log_setup may get */
};
enum log_format {
        LOG_FORMAT_AUTO, /* the journal when standard error is it, else text */
        LOG_FORMAT_TEXT,
        LOG_FORMAT_JSON,
        LOG_FORMAT_JOURNAL,
};

/* May be called again at any time, from the thread that called it first. Until then: info, text.
 * Text lines bear systemd's "<N>" priority prefix when standard error is the journal
 * (sd-daemon(3)), a time when it is anything else. */
void log_setup(enum log_level level, enum log_format format);

/* What a line is about, for who searches the log: a field of the journal ("SANDBOX_ID"), a member
 * in JSON ("sandbox_id"). Text lines do not show them: the text says it all. */
struct log_field {
        const char *name;  /* [A-Z][A-Z0-9_]*, at most 30 bytes */
        const char *value; /* NULL: the field is left out */
        bool is_number;
};
#define LOG_FIELDS_MAX 12 /* of a line */

/* Where lines go in LOG_FORMAT_JOURNAL; priority as in syslog(3). A negative return: it did not
 * take the line, which then goes to standard error. Called from any thread. Set before log_setup;
 * without one that format is text. */
typedef int (*log_sink)(int priority, const char *text, const struct log_field *fields, size_t n);
void log_set_journal(log_sink sink);

/* Whether messages of this level are logged: to save the making of one. */
bool log_is_on(enum log_level level);

/* fmt gives the text without a newline; control characters in it are escaped, so that what a
 * sandbox supplied cannot forge a line. */
void log_at(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void log_with(enum log_level level, const struct log_field *fields, size_t n, const char *fmt, ...)
        __attribute__((format(printf, 4, 5)));

#define log_error(...) log_at(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_at(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_at(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_LEVEL_DEBUG, __VA_ARGS__)
