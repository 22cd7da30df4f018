#include "base/log.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/str.h"

#define LINE_MAX_LEN 2048

static const char *const level_names[] = {"error", "warn", "info", "debug"};
static const int syslog_priorities[] = {3, 4, 6, 7}; /* syslog(3) */

static enum log_level threshold = LOG_LEVEL_INFO;
static enum log_format line_format = LOG_FORMAT_TEXT;

void log_setup(enum log_level level, enum log_format format)
{
        threshold = level;
        line_format = format;
}

/* JSON needs '"' and '\' escaped; control characters are gone already. */
static void json_quote(char *out, size_t size, const char *s)
{
        size_t o = 0;
        for (; *s && o + 2 < size; s++) {
                if (*s == '"' || *s == '\\')
                        out[o++] = '\\';
                out[o++] = *s;
        }
        out[o] = '\0';
}

bool log_is_on(enum log_level level)
{
        return level <= threshold;
}

void log_at(enum log_level level, const char *fmt, ...)
{
        char raw[LINE_MAX_LEN], text[LINE_MAX_LEN], when[40], line[3 * LINE_MAX_LEN];
        struct timespec now;
        struct tm tm;

        if (!log_is_on(level))
                return;
        va_list ap;
        va_start(ap, fmt);
        (void)vsnprintf(raw, sizeof(raw), fmt, ap); /* cut on purpose */
        va_end(ap);
        (void)str_escape(text, sizeof(text), raw, strlen(raw));

        (void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail for this clock */
        (void)gmtime_r(&now.tv_sec, &tm);
        (void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
        if (line_format == LOG_FORMAT_JSON) {
                json_quote(raw, sizeof(raw), text);
                (void)str_format(line, sizeof(line),
                                 "{\"time\":\"%s.%03ldZ\",\"level\":\"%s\",\"message\":\"%s\"}\n",
                                 when, now.tv_nsec / 1000000, level_names[level], raw);
        } else if (getenv("JOURNAL_STREAM")) {
                (void)str_format(line, sizeof(line), "<%d>%s\n", syslog_priorities[level], text);
        } else {
                (void)str_format(line, sizeof(line), "%s.%03ldZ %-5s %s\n", when,
                                 now.tv_nsec / 1000000, level_names[level], text);
        }
        ssize_t written = write(STDERR_FILENO, line, strlen(line));
        (void)written; /* there is nobody left to tell */
}
