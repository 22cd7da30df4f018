/* The log of a program: one line an event on standard error. */
#pragma once

#include <stdbool.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

/* Until this is called: info, text. Text lines bear systemd's "<N>" priority prefix when standard
 * error is the journal (sd-daemon(3)), a time when it is anything else. */
void log_setup(enum log_level level, enum log_format format);

/* Whether messages of this level are logged: to save the making of one. */
bool log_is_on(enum log_level level);

/* fmt gives the text without a newline; control characters in it are escaped, so that what a
 * sandbox supplied cannot forge a line. */
void log_at(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_at(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_at(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_at(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_LEVEL_DEBUG, __VA_ARGS__)
