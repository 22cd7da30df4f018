/* What a line looks like: as text, in JSON, on the way to the journal. */
#include "tests/unit/temp_dir.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"

/* Standard error is a file for as long as a line is logged. */
static struct temp_dir dir;
static int saved, file;

static int begin(void **state)
{
        (void)state;
        assert_int_equal(unsetenv("JOURNAL_STREAM"), 0);
        log_set_journal(NULL);
        (void)fflush(stderr);
        saved = dup(STDERR_FILENO);
        file = open(temp_dir_file(&dir, "log"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        assert_true(file >= 0 && dup2(file, STDERR_FILENO) >= 0);
        return 0;
}

static int end(void **state)
{
        (void)state;
        assert_true(dup2(saved, STDERR_FILENO) >= 0);
        (void)close(saved);
        (void)close(file);
        log_setup(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
        return 0;
}

/* What was logged since the last time, without its newline; "" for nothing. */
static const char *logged(void)
{
        static char text[16 * 1024];

        ssize_t n = pread(file, text, sizeof(text) - 1, 0);
        assert_true(n >= 0);
        assert_int_equal(ftruncate(file, 0), 0);
        assert_int_equal(lseek(file, 0, SEEK_SET), 0);
        text[n] = '\0';
        if (n > 0) {
                assert_int_equal(text[n - 1], '\n');
                text[n - 1] = '\0';
        }
        assert_null(strchr(text, '\n')); /* one line */
        return text;
}

/* After the time, which is as long always. */
static const char *after_time(const char *line)
{
        static const char like[] = "2026-01-01T00:00:00.000Z ";

        assert_true(strlen(line) > strlen(like) && line[10] == 'T' && line[23] == 'Z');
        return line + strlen(like);
}

static const struct log_field fields[] = {
        {.name = "SANDBOX_ID", .value = "01h"},
        {.name = "RUNTIME", .value = NULL},
        {.name = "REQUEST_ID", .value = "a\"b\\\x1b"},
        {.name = "UID", .value = "1001", .is_number = true},
};

static void text(void **state)
{
        (void)state;
        log_setup(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
        log_with(LOG_LEVEL_WARN, fields, ARRAY_SIZE(fields), "%s\n2026 forged", "evil");
        assert_string_equal(after_time(logged()), "warn  evil\\x0a2026 forged");
        log_setup(LOG_LEVEL_INFO, LOG_FORMAT_AUTO); /* which it is, but for the journal */
        log_info("so");
        assert_string_equal(after_time(logged()), "info  so");
}

static void json(void **state)
{
        (void)state;
        log_setup(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
        log_with(LOG_LEVEL_WARN, fields, ARRAY_SIZE(fields), "say \"%s\"\\\t", "no");
        assert_string_equal(strstr(logged(), ",\"level\""),
                            ",\"level\":\"warn\",\"message\":\"say "
                            "\\\"no\\\"\\\\\\\\x09\",\"sandbox_id\":\"01h\","
                            "\"request_id\":\"a\\\"b\\\\\\\\x1b\",\"uid\":1001}");
}

/* A line is cut where it is text, never where that would break the JSON. */
static void json_of_the_longest_line(void **state)
{
        struct log_field many[LOG_FIELDS_MAX + 1];
        char quotes[4096];

        (void)state;
        log_setup(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
        memset(quotes, '"', sizeof(quotes) - 1);
        quotes[sizeof(quotes) - 1] = '\0';
        for (size_t i = 0; i < ARRAY_SIZE(many); i++)
                many[i] = (struct log_field){.name = "A_NAME_OF_THIRTY_BYTES_IN_ALL",
                                             .value = quotes};
        log_with(LOG_LEVEL_INFO, many, ARRAY_SIZE(many), "%s", quotes);
        const char *line = logged();
        size_t n = strlen(line), members = 0;
        assert_string_equal(line + n - 2, "\"}");
        for (const char *p = line; (p = strstr(p, ",\"a_name")); p++)
                members++;
        assert_int_equal(members, LOG_FIELDS_MAX);
}

static void levels(void **state)
{
        static const enum log_level all[] = {LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO,
                                             LOG_LEVEL_DEBUG};

        (void)state;
        for (size_t threshold = 0; threshold < ARRAY_SIZE(all); threshold++) {
                log_setup(all[threshold], LOG_FORMAT_TEXT); /* again and again */
                for (size_t level = 0; level < ARRAY_SIZE(all); level++) {
                        assert_int_equal(log_is_on(all[level]), level <= threshold);
                        log_at(all[level], "x");
                        assert_int_equal(*logged() != '\0', level <= threshold);
                }
                log_at(LOG_LEVEL_AUDIT, "x"); /* at every one */
                assert_string_equal(after_time(logged()), "audit x");
        }
}

/* --- the journal ----------------------------------------------------------------------------- */

static struct {
        unsigned n;
        int priority;
        char text[64];
        size_t n_fields;
        bool refuses;
} sunk;

static int sink(int priority, const char *line, const struct log_field *all, size_t n)
{
        (void)all;
        sunk.n++;
        sunk.priority = priority;
        (void)str_format(sunk.text, sizeof(sunk.text), "%s", line);
        sunk.n_fields = n;
        return sunk.refuses ? -1 : 0;
}

static void set_stream(int fd)
{
        char stream[64];
        struct stat st;

        assert_int_equal(fstat(fd, &st), 0);
        assert_true(str_format(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev,
                               (unsigned long long)st.st_ino));
        assert_int_equal(setenv("JOURNAL_STREAM", stream, 1), 0);
}

static void journal(void **state)
{
        (void)state;
        memset(&sunk, 0, sizeof(sunk));
        log_set_journal(sink);
        log_setup(LOG_LEVEL_INFO, LOG_FORMAT_AUTO);
        log_info("not there");
        assert_true(*logged() && !sunk.n);
        set_stream(STDIN_FILENO); /* inherited, from whose standard error it was */
        log_setup(LOG_LEVEL_INFO, LOG_FORMAT_AUTO);
        log_info("not there");
        assert_string_equal(after_time(logged()), "info  not there");
        assert_int_equal(sunk.n, 0);

        set_stream(STDERR_FILENO);
        log_setup(LOG_LEVEL_INFO, LOG_FORMAT_AUTO);
        log_with(LOG_LEVEL_ERROR, fields, ARRAY_SIZE(fields), "a\nb");
        log_debug("no");
        assert_string_equal(logged(), "");
        assert_int_equal(sunk.n, 1);
        assert_int_equal(sunk.priority, 3);
        assert_string_equal(sunk.text, "a\\x0ab");
        assert_int_equal(sunk.n_fields, ARRAY_SIZE(fields));
        log_at(LOG_LEVEL_AUDIT, "x");
        assert_int_equal(sunk.priority, 5);

        sunk.refuses = true;
        log_warn("kept");
        assert_string_equal(logged(), "<4>kept");
        log_setup(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
        log_error("text");
        assert_string_equal(logged(), "<3>text");
        log_set_journal(NULL); /* a program that has none */
        log_setup(LOG_LEVEL_INFO, LOG_FORMAT_JOURNAL);
        log_info("text");
        assert_string_equal(logged(), "<6>text");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(text, begin, end),
                cmocka_unit_test_setup_teardown(json, begin, end),
                cmocka_unit_test_setup_teardown(json_of_the_longest_line, begin, end),
                cmocka_unit_test_setup_teardown(levels, begin, end),
                cmocka_unit_test_setup_teardown(journal, begin, end),
        };

        temp_dir_make(&dir);
        int r = cmocka_run_group_tests(tests, NULL, NULL);
        temp_dir_remove(&dir);
        return r;
}
