#include "cli/doctor_view.h"

#include <string.h>

#include "base/str.h"

#define TEXT_MAX 4096

/* "ok", "warn", "fail"; "unknown" for those of later versions. */
static const char *finding_word(Sandboxd__V1__FindingStatus status)
{
        switch (status) {
        case SANDBOXD__V1__FINDING_STATUS__FINDING_STATUS_OK:
                return "ok";
        case SANDBOXD__V1__FINDING_STATUS__FINDING_STATUS_WARN:
                return "warn";
        case SANDBOXD__V1__FINDING_STATUS__FINDING_STATUS_FAIL:
                return "fail";
        default:
                return "unknown";
        }
}

static void print_text(const char *before, const char *text, FILE *out)
{
        char escaped[TEXT_MAX];

        fprintf(out, "%s%s\n", before, str_escape(escaped, sizeof(escaped), text, strlen(text)));
}

void finding_print(const Sandboxd__V1__Finding *f, FILE *out)
{
        char id[256];

        fprintf(out, "%-5s %-26s", finding_word(f->status),
                str_escape(id, sizeof(id), f->id, strlen(f->id)));
        print_text(" ", f->found, out);
        if (f->status == SANDBOXD__V1__FINDING_STATUS__FINDING_STATUS_OK)
                return;
        if (*f->why)
                print_text("      why:    ", f->why, out);
        if (*f->repair)
                print_text("      repair: ", f->repair, out);
}

json_t *finding_json(const Sandboxd__V1__Finding *f)
{
        return json_pack("{s:s, s:s, s:s, s:s, s:s}", "id", f->id, "status",
                         finding_word(f->status), "found", f->found, "why", f->why, "repair",
                         f->repair);
}

/* What a later version calls by another name is no reason to sleep well. */
void findings_count(struct findings *n, Sandboxd__V1__FindingStatus status)
{
        n->ok += status == SANDBOXD__V1__FINDING_STATUS__FINDING_STATUS_OK;
        n->fail += status == SANDBOXD__V1__FINDING_STATUS__FINDING_STATUS_FAIL;
        n->warn += status != SANDBOXD__V1__FINDING_STATUS__FINDING_STATUS_OK &&
                   status != SANDBOXD__V1__FINDING_STATUS__FINDING_STATUS_FAIL;
}

const char *findings_word(const struct findings *n)
{
        return n->fail ? "fail" : n->warn ? "warn" : "ok";
}
