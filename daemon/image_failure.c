#include "daemon/image_failure.h"

#include <signal.h>
#include <string.h>

#include "base/str.h"

/* C and Go have their own ways to write what errno means. */
static bool says(const struct image_failure *f, const char *words)
{
        return strcasestr(f->result->output, words);
}

/* False: it is no limit that it met. */
static bool explain_limit(const struct image_failure *f, struct err *e)
{
        if (f->result->timed_out)
                (void)err_set(e, STATUS_DEADLINE_EXCEEDED,
                              "%s: images.import_timeout of the configuration has passed", f->step);
        else if (f->result->signal == SIGXFSZ || says(f, "file too large") || says(f, "SIGXFSZ"))
                (void)err_set(e, STATUS_RESOURCE_EXHAUSTED,
                              "%s: a file becomes larger than images.max_size of the "
                              "configuration, %llu bytes",
                              f->step, (unsigned long long)f->max_size);
        else if (says(f, "no space left on device") || says(f, "disk quota exceeded"))
                (void)err_set(e, STATUS_RESOURCE_EXHAUSTED, "%s: the disk is full", f->step);
        else if (says(f, "out of memory") || says(f, "cannot allocate memory"))
                (void)err_set(e, STATUS_RESOURCE_EXHAUSTED,
                              "%s: %s takes more memory than an import may, %llu bytes", f->step,
                              f->program, (unsigned long long)f->max_memory);
        else
                return false;
        return true;
}

/* skopeo's last word: time="..." level=fatal msg="..." */
static void quoted_message(char *line)
{
        char *from = strstr(line, " msg=\""), *to = line;

        if (!from)
                return;
        for (from += strlen(" msg=\""); *from && *from != '"'; from++) {
                if (*from == '\\' && from[1])
                        from++;
                *to++ = *from;
        }
        *to = '\0';
}

/* tar ends with a summary; what it summarizes stands before it. */
static const char *first_complaint(char *text)
{
        char *rest = text, *line;

        while ((line = strsep(&rest, "\n")))
                if (str_starts(line, "tar: ") && !strstr(line, "Removing leading"))
                        return line;
        return NULL;
}

static const char *last_word(char *text)
{
        char *line = (char *)str_last_line(text);

        quoted_message(line);
        return line;
}

void image_failure_explain(const struct image_failure *f, struct err *e)
{
        char text[4096], shown[ERR_MSG_MAX / 2];
        bool is_tar = str_eq(f->program, "tar");
        size_t n = strlen(f->result->output);
        const char *line = NULL;

        if (explain_limit(f, e))
                return;
        if (f->result->signal) {
                (void)err_set(e, STATUS_UNKNOWN,
                              "%s: signal %d killed %s: somebody sent it, or the host has no "
                              "memory left",
                              f->step, f->result->signal, f->program);
                return;
        }
        (void)str_format(text, sizeof(text), "%s", /* its end, for skopeo and umoci */
                         f->result->output +
                                 (is_tar || n < sizeof(text) ? 0 : n - sizeof(text) + 1));
        if (is_tar)
                line = first_complaint(text);
        if (!line)
                line = last_word(text);
        (void)err_set(e,
                      f->registry && str_eq(f->program, "skopeo") ? STATUS_UNKNOWN
                                                                  : STATUS_INVALID_ARGUMENT,
                      "%s: %s failed: %s", f->step, f->program,
                      str_escape(shown, sizeof(shown), line, strlen(line)));
}
