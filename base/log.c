#include "base/log.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/str.h"
#include "base/util.h"

#define LINE_MAX_LEN  2048
#define FIELD_MAX_LEN 256
#define WHEN_MAX      40

static const char *const level_names[] = {"error", "warn", "info", "debug", "audit"};
static const int syslog_priorities[] = {3, 4, 6, 7, 5}; /* syslog(3) */

/* Other threads log while it is set up anew. */
static atomic_uint threshold = LOG_LEVEL_INFO, line_format = LOG_FORMAT_TEXT;
static atomic_bool on_journal; /* standard error is the journal */
static _Atomic(log_sink) journal;

/* systemd.exec(5): the device and inode of the stream that it made for us. A process that inherited
 * the variable, and has another standard error, is not meant. */
static bool stderr_is_journal(void)
{
        const char *stream = getenv("JOURNAL_STREAM");
        char own[64];
        struct stat st;

        if (!stream || fstat(STDERR_FILENO, &st) < 0)
                return false;
        (void)str_format(own, sizeof(own), "%llu:%llu", (unsigned long long)st.st_dev,
                         (unsigned long long)st.st_ino); /* two numbers fit */
        return str_eq(stream, own);
}

void log_set_journal(log_sink sink)
{
        journal = sink;
}

void log_setup(enum log_level level, enum log_format format)
{
        bool is_journal = stderr_is_journal();

        if (format == LOG_FORMAT_AUTO)
                format = is_journal ? LOG_FORMAT_JOURNAL : LOG_FORMAT_TEXT;
        on_journal = is_journal;
        threshold = level;
        line_format = format;
}

bool log_is_on(enum log_level level)
{
        return level == LOG_LEVEL_AUDIT || level <= threshold;
}

/* --- a line ---------------------------------------------------------------------------------- */

/* A line that is put together. There is room for the longest, each character of it escaped; more
 * would be cut. */
struct line {
        char text[6 * LINE_MAX_LEN];
        size_t n;
};

static void put_char(struct line *l, char c)
{
        if (l->n < sizeof(l->text) - 1)
                l->text[l->n++] = c;
}

__attribute__((format(printf, 2, 3))) static void put(struct line *l, const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        int n = vsnprintf(l->text + l->n, sizeof(l->text) - l->n, fmt, ap);
        va_end(ap);
        if (n > 0)
                l->n = MIN(l->n + (size_t)n, sizeof(l->text) - 1);
}

/* JSON needs '"' and '\' escaped; control characters are gone already. */
static void put_quoted(struct line *l, const char *s)
{
        put_char(l, '"');
        for (; *s; s++) {
                if (*s == '"' || *s == '\\')
                        put_char(l, '\\');
                put_char(l, *s);
        }
        put_char(l, '"');
}

static void put_member(struct line *l, const struct log_field *field)
{
        char value[FIELD_MAX_LEN];

        put(l, ",\"");
        for (const char *c = field->name; *c; c++)
                put_char(l, (char)tolower((unsigned char)*c));
        put(l, "\":");
        (void)str_escape(value, sizeof(value), field->value, strlen(field->value));
        if (field->is_number)
                put(l, "%s", value);
        else
                put_quoted(l, value);
}

static void put_json(struct line *l, enum log_level level, const char *when, const char *text,
                     const struct log_field *fields, size_t n)
{
        put(l, "{\"time\":\"%s\",\"level\":\"%s\",\"message\":", when, level_names[level]);
        put_quoted(l, text);
        for (size_t i = 0; i < n; i++)
                if (fields[i].value)
                        put_member(l, &fields[i]);
        put_char(l, '}');
}

static void format_now(char out[WHEN_MAX])
{
        struct timespec now;
        struct tm tm;

        (void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail for this clock */
        (void)gmtime_r(&now.tv_sec, &tm);
        size_t n = strftime(out, WHEN_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
        (void)str_format(out + n, WHEN_MAX - n, ".%03ldZ", now.tv_nsec / 1000000);
}

/* One write, so that lines of threads do not mix. */
static void write_line(enum log_level level, const char *text, const struct log_field *fields,
                       size_t n)
{
        struct line line = {.n = 0};
        char when[WHEN_MAX];

        format_now(when);
        if (line_format == LOG_FORMAT_JSON)
                put_json(&line, level, when, text, fields, n);
        else if (on_journal)
                put(&line, "<%d>%s", syslog_priorities[level], text);
        else
                put(&line, "%s %-5s %s", when, level_names[level], text);
        line.text[line.n++] = '\n'; /* in the place of the NUL */
        ssize_t written = write(STDERR_FILENO, line.text, line.n);
        (void)written; /* there is nobody left to tell */
}

__attribute__((format(printf, 4, 0))) static void log_v(enum log_level level,
                                                        const struct log_field *fields, size_t n,
                                                        const char *fmt, va_list ap)
{
        char raw[LINE_MAX_LEN], text[LINE_MAX_LEN];
        log_sink sink = line_format == LOG_FORMAT_JOURNAL ? journal : NULL;

        (void)vsnprintf(raw, sizeof(raw), fmt, ap); /* cut on purpose */
        (void)str_escape(text, sizeof(text), raw, strlen(raw));
        n = MIN(n, (size_t)LOG_FIELDS_MAX);
        if (!sink || sink(syslog_priorities[level], text, fields, n) < 0)
                write_line(level, text, fields, n);
}

void log_at(enum log_level level, const char *fmt, ...)
{
        va_list ap;

        if (!log_is_on(level))
                return;
        va_start(ap, fmt);
        log_v(level, NULL, 0, fmt, ap);
        va_end(ap);
}

void log_with(enum log_level level, const struct log_field *fields, size_t n, const char *fmt, ...)
{
        va_list ap;

        if (!log_is_on(level))
                return;
        va_start(ap, fmt);
        log_v(level, fields, n, fmt, ap);
        va_end(ap);
}
