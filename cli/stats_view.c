#include "cli/stats_view.h"

#include <inttypes.h>

#include "base/util.h"

json_t *stats_json(const Sandboxd__V1__SandboxStats *stats)
{
        char at[TIME_TEXT_MAX] = "";

        if (stats->at)
                format_time(stats->at->seconds, at);
        /* clang-format off */
        return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
                         "sandbox_id", stats->sandbox_id,
                         "at", at,
                         "cpu_nanos", (json_int_t)stats->cpu_nanos,
                         "memory_bytes", (json_int_t)stats->memory_bytes,
                         "memory_cache_bytes", (json_int_t)stats->memory_cache_bytes,
                         "memory_limit_bytes", (json_int_t)stats->memory_limit_bytes,
                         "oom_kills", (json_int_t)stats->oom_kills,
                         "pids", (json_int_t)stats->pids,
                         "pids_limit", (json_int_t)stats->pids_limit,
                         "workspace_bytes", (json_int_t)stats->workspace_bytes);
        /* clang-format on */
}

void stats_begin(struct table *t)
{
        static const char *const head[] = {"ID",    "NAME",      "CPU TIME", "MEMORY",
                                           "CACHE", "OOM KILLS", "PIDS",     "WORKSPACE"};

        *t = (struct table){.columns = ARRAY_SIZE(head)};
        for (size_t i = 0; i < ARRAY_SIZE(head); i++)
                table_add(t, head[i]);
}

void stats_add(struct table *t, const char *name, const Sandboxd__V1__SandboxStats *stats)
{
        char text[2 * SIZE_TEXT_MAX + TIME_TEXT_MAX], size[SIZE_TEXT_MAX], limit[SIZE_TEXT_MAX];

        table_add(t, stats->sandbox_id);
        table_add(t, name);
        format_duration(stats->cpu_nanos / NSEC_PER_MSEC, text);
        table_add(t, text);
        format_size(stats->memory_bytes, size);
        format_size(stats->memory_limit_bytes, limit);
        (void)str_format(text, sizeof(text), "%s / %s", size, limit);
        table_add(t, text);
        format_size(stats->memory_cache_bytes, size);
        table_add(t, size);
        (void)str_format(text, sizeof(text), "%" PRIu64, stats->oom_kills);
        table_add(t, text);
        (void)str_format(text, sizeof(text), "%" PRIu64 " / %" PRIu64, stats->pids,
                         stats->pids_limit);
        table_add(t, text);
        format_size(stats->workspace_bytes, size);
        table_add(t, size);
}
