#include "cli/output.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/util.h"
#include "cli/terminal.h"

void complain(const char *fmt, ...)
{
        char raw[ERR_MSG_MAX + 128], text[4 * sizeof(raw)];
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(raw, sizeof(raw), fmt, ap); /* cut on purpose */
        va_end(ap);
        fprintf(stderr, "sandboxctl: %s%s", str_escape(text, sizeof(text), raw, strlen(raw)),
                terminal_is_raw() ? "\r\n" : "\n");
}

void table_add(struct table *t, const char *cell)
{
        if (!cell || !*cell)
                cell = "-";
        size_t n = strlen(cell), size = 4 * n + 1; /* every byte may become \xNN */
        _cleanup_free_ char *text = malloc(size);

        if (text)
                strv_add(&t->cells, str_escape(text, size, cell, n));
        else
                t->cells.failed = true;
}

void table_add_row(struct table *t, const char *const *cells)
{
        for (size_t i = 0; i < t->columns; i++)
                table_add(t, cells[i]);
}

void table_add_field(struct table *t, const char *key, const char *value)
{
        if (!value || !*value)
                return;
        strv_addf(&t->cells, "%s:", key);
        table_add(t, value);
}

/* In characters, which is columns for all but wide and combining ones. */
static size_t text_width(const char *s)
{
        size_t n = 0;

        for (; *s; s++)
                n += ((unsigned char)*s & 0xC0) != 0x80;
        return n;
}

int table_print(struct table *t, FILE *out)
{
        size_t n = t->cells.n, last = t->columns - 1, widths[TABLE_COLUMNS_MAX] = {0};
        _cleanup_strv_ char **cells = strv_take(&t->cells);

        if (!cells)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                size_t *width = &widths[i % t->columns];
                *width = MAX(*width, text_width(cells[i]));
        }
        for (size_t i = 0; i < n; i++) {
                size_t column = i % t->columns;
                size_t padding = widths[column] - text_width(cells[i]) + 2;
                if (column == last)
                        fprintf(out, "%s\n", cells[i]);
                else
                        fprintf(out, "%s%*s", cells[i], (int)padding, "");
        }
        return 0;
}

/* In ASCII, because a terminal may obey U+0080 to U+009F, which JSON lets through. */
static char *json_text(json_t *json, size_t flags)
{
        char *text = json ? json_dumps(json, flags | JSON_ENSURE_ASCII) : NULL;

        json_decref(json);
        return text;
}

int print_json(json_t *json, FILE *out)
{
        _cleanup_free_ char *text = json_text(json, JSON_INDENT(2));

        if (!text)
                return -ENOMEM;
        fprintf(out, "%s\n", text);
        return 0;
}

char *json_line(json_t *json)
{
        _cleanup_free_ char *text = json_text(json, JSON_COMPACT);

        return text ? str_printf("%s\n", text) : NULL;
}

int write_json_line(json_t *json, int fd)
{
        _cleanup_free_ char *line = json_line(json);

        return line ? write_output(fd, line, strlen(line)) : -ENOMEM;
}

json_t *json_append(json_t *array, json_t *item)
{
        if (json_array_append_new(array, item) == 0)
                return array;
        json_decref(array);
        return NULL;
}

json_t *json_base64(const uint8_t *bytes, size_t n)
{
        static const char digits[] =
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        size_t size = (n + 2) / 3 * 4;
        _cleanup_free_ char *text = malloc(size + 1);
        char *out = text;

        if (!text)
                return NULL;
        for (size_t i = 0; i < n; i += 3) {
                size_t left = MIN(n - i, 3u);
                uint32_t group = (uint32_t)bytes[i] << 16;
                group |= left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0;
                group |= left > 2 ? bytes[i + 2] : 0u;
                for (size_t k = 0; k < 4; k++, group <<= 6)
                        *out++ = k <= left ? digits[group >> 18 & 63] : '=';
        }
        return json_stringn(text, size);
}

/* "3 minutes"; empty for less than a second. */
static void format_span(int64_t seconds, char ret[TIME_TEXT_MAX])
{
        static const struct {
                int64_t seconds;
                const char *name;
        } units[] = {{86400, "day"}, {3600, "hour"}, {60, "minute"}, {1, "second"}};

        ret[0] = '\0';
        for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
                int64_t n = seconds / units[i].seconds;
                if (n < 1)
                        continue;
                (void)str_format(ret, TIME_TEXT_MAX, "%" PRId64 " %s%s", n, units[i].name,
                                 n == 1 ? "" : "s");
                return;
        }
}

void format_ago(int64_t seconds, char ret[TIME_TEXT_MAX])
{
        char span[TIME_TEXT_MAX];

        format_span(seconds, span);
        (void)str_format(ret, TIME_TEXT_MAX, "%s%s", *span ? span : "just now",
                         *span ? " ago" : "");
}

void format_in(int64_t seconds, char ret[TIME_TEXT_MAX])
{
        char span[TIME_TEXT_MAX];

        format_span(seconds, span);
        (void)str_format(ret, TIME_TEXT_MAX, "%s%s", *span ? "in " : "now", span);
}

void format_duration(uint64_t ms, char ret[TIME_TEXT_MAX])
{
        static const struct {
                uint64_t seconds;
                char letter;
        } units[] = {{86400, 'd'}, {3600, 'h'}, {60, 'm'}, {1, 's'}};
        uint64_t seconds = ms / 1000;
        size_t i = 0;

        if (ms < 10000 && ms % 1000) {
                (void)str_format(ret, TIME_TEXT_MAX, "%.2fs", (double)ms / 1000);
                return;
        }
        while (i + 1 < ARRAY_SIZE(units) && seconds < units[i].seconds)
                i++;
        (void)str_format(ret, TIME_TEXT_MAX, "%" PRIu64 "%c", seconds / units[i].seconds,
                         units[i].letter);
        uint64_t rest = seconds % units[i].seconds;
        if (rest && rest >= units[i + 1].seconds) {
                size_t n = strlen(ret);
                (void)str_format(ret + n, TIME_TEXT_MAX - n, " %" PRIu64 "%c",
                                 rest / units[i + 1].seconds, units[i + 1].letter);
        }
}

void format_size(uint64_t bytes, char ret[SIZE_TEXT_MAX])
{
        static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
        double n = (double)bytes;
        size_t i = 0;

        for (; n >= 1024 && i + 1 < ARRAY_SIZE(units); i++)
                n /= 1024;
        (void)str_format(ret, SIZE_TEXT_MAX, "%.1f", n);
        size_t len = strlen(ret);
        if (ret[len - 1] == '0')
                len -= 2; /* "512.0" */
        (void)str_format(ret + len, SIZE_TEXT_MAX - len, "%s", units[i]);
}

void format_time(int64_t unix_seconds, char ret[TIME_TEXT_MAX])
{
        time_t t = (time_t)unix_seconds;
        struct tm tm;

        ret[0] = '\0';
        if (gmtime_r(&t, &tm))
                (void)strftime(ret, TIME_TEXT_MAX, "%Y-%m-%dT%H:%M:%SZ", &tm); /* fits */
}

json_t *timestamp_json(const Google__Protobuf__Timestamp *t)
{
        char text[TIME_TEXT_MAX];

        if (!t)
                return json_null();
        format_time(t->seconds, text);
        return json_string(text);
}

static void wait_writable(int fd)
{
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        (void)poll(&p, 1, -1); /* on failure the next write says why */
}

int write_output(int fd, const void *bytes, size_t n)
{
        const char *p = bytes;

        while (n > 0) {
                ssize_t written = write(fd, p, n);
                if (written < 0 && errno == EAGAIN) {
                        wait_writable(fd);
                } else if (written < 0 && errno != EINTR) {
                        return -errno;
                } else if (written > 0) {
                        p += written;
                        n -= (size_t)written;
                }
        }
        return 0;
}
