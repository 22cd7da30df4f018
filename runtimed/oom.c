#include "runtimed/oom.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

/* Of a cgroup v2 and a v1: each has a line "oom_kill N" (cgroup-v2.rst, cgroup-v1/memory.rst). */
static const char *const files[] = {
        "/sys/fs/cgroup/memory.events",
        "/sys/fs/cgroup/memory/memory.oom_control",
};

static uint64_t seen;

static uint64_t read_count(const char *path)
{
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        char text[512];
        uint64_t count = 0;

        ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
        if (n <= 0)
                return 0;
        text[n] = '\0';
        char *line = strstr(text, "oom_kill ");
        if (line && (line == text || line[-1] == '\n'))
                count = strtoull(line + strlen("oom_kill "), NULL, 10);
        return count;
}

static uint64_t count_kills(void)
{
        uint64_t count = 0;

        for (size_t i = 0; i < ARRAY_SIZE(files); i++)
                count += read_count(files[i]);
        return count;
}

void oom_watch(void)
{
        seen = count_kills();
}

bool oom_has_struck(void)
{
        bool struck = count_kills() > seen;

        seen += struck;
        return struck;
}
