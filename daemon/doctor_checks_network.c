/* What the network `bridge` takes: other people's programs (docs/network.md). */

#include <jansson.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/doctor_checks.h"
#include "daemon/proc.h"

#define CONFLIST_MAX (64 * KiB)

/* Who has not asked for networks may do without. */
static enum finding_status severity(const struct doctor_subject *s)
{
        return s->networks ? FINDING_FAIL : FINDING_WARN;
}

static bool has_plugin(const struct doctor_subject *s, const char *type)
{
        char program[PATH_MAX];

        for (const char *dir = s->plugins; *dir; dir += strcspn(dir, "\n") + 1)
                if (str_format(program, sizeof(program), "%.*s/%s", (int)strcspn(dir, "\n"), dir,
                               type) &&
                    access(program, X_OK) == 0)
                        return true;
        return false;
}

static void judge_plugin(const struct doctor_subject *s, const char *type, struct finding *f)
{
        char shown[128];

        (void)str_escape(shown, sizeof(shown), type, strlen(type));
        if (strchr(type, '/') || !has_plugin(s, type))
                finding_add(f, severity(s), "%s is not there", shown);
        else
                finding_add(f, FINDING_OK, "%s", shown);
}

static void judge_type_of(const struct doctor_subject *s, const json_t *object, struct finding *f)
{
        const char *type = json_string_value(json_object_get(object, "type"));

        if (type)
                judge_plugin(s, type, f);
}

/* The operator's list may be another one by now than the daemon has read. */
static void judge_conflist(const struct doctor_subject *s, struct finding *f)
{
        _cleanup_free_ char *text = NULL;
        struct err e;
        size_t i;
        const json_t *plugin;

        if (io_read_file(s->conflist, CONFLIST_MAX, &text, NULL, &e) < 0) {
                finding_add(f, severity(s), "network.conflist: %s", e.msg);
                return;
        }
        json_t *conflist = json_loads(text, 0, NULL);
        const json_t *plugins = json_object_get(conflist, "plugins");
        if (json_array_size(plugins) == 0)
                finding_add(f, severity(s), "network.conflist: '%s' names no plugins", s->conflist);
        json_array_foreach(plugins, i, plugin)
        {
                judge_type_of(s, plugin, f);
                judge_type_of(s, json_object_get(plugin, "ipam"), f);
        }
        json_decref(conflist);
}

void doctor_check_plugins(const struct doctor_subject *s, struct finding *f)
{
        if (s->conflist[0]) {
                judge_conflist(s, f);
        } else { /* of the daemon's own list */
                judge_plugin(s, "ptp", f);
                judge_plugin(s, "host-local", f);
        }
        if (f->status != FINDING_OK)
                finding_repair(f, "apt-get install containernetworking-plugins, or say where they "
                                  "are in network.plugins");
}

void doctor_check_packet_filter(const struct doctor_subject *s, struct finding *f)
{
        if (proc_has_program("nft")) {
                finding_set(f, FINDING_OK, "nft is there");
                return;
        }
        finding_set(f, severity(s), "nft is not there");
        finding_repair(f, "apt-get install nftables");
}
