#include "manifest/compose.h"

#include <stddef.h>

#include "base/str.h"
#include "base/util.h"

/* Of the Compose Specification: the top-level elements, and those of a service. */
static const struct {
        const char *key, *hint;
} keys[] = {
        {"services", "name the program with a port under 'web', the others under 'workers'"},
        {"image", "the sandbox has its image already"},
        {"container_name", "a worker has a 'name'"},
        {"ports", "give the one port that the web program listens on as 'port'"},
        {"expose", "give the one port that the web program listens on as 'port'"},
        {"volumes", "everything in the workspace is kept already"},
        {"tmpfs", "/tmp is in memory already"},
        {"networks", "the sandbox has its network already"},
        {"network_mode", "the sandbox has its network already"},
        {"dns", "the sandbox has its name servers already"},
        {"environment", "set variables in the command: 'NAME=value program'"},
        {"env_file", "read the file in the command: '. ./.env && exec program'"},
        {"entrypoint", "give all of it as 'command'"},
        {"working_dir", "change it in the command: 'cd directory && exec program'"},
        {"depends_on", "programs start together, and are started again until they run"},
        {"restart", "programs are always started again"},
        {"healthcheck", "give the path to ask for as 'health_path'"},
        {"user", "the sandbox has one user"},
        {"deploy", "limits are given when the sandbox is created"},
        {"mem_limit", "limits are given when the sandbox is created"},
        {"cpus", "limits are given when the sandbox is created"},
        {"scale", "name each worker"},
        {"profiles", "all programs are started"},
        {"secrets", "give them when the sandbox or the task is started"},
        {"configs", "put files into the workspace"},
};

const char *compose_hint(const char *key)
{
        for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
                if (str_eq(keys[i].key, key))
                        return keys[i].hint;
        return NULL;
}
