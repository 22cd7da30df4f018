#include "daemon/notify.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "base/util.h"

#define STATUS_MAX 256

/* Of the process, as the environment is, which it holds too, with the socket. NULL: nobody is told.
 */
static char **environment;
static char *entry; /* of the socket, in it */

void notify_open(void)
{
        const char *socket = getenv("NOTIFY_SOCKET");
        size_t n = 0;

        if (!socket)
                return;
        free(environment); /* of an earlier call, in a test */
        free(entry);
        entry = str_printf("NOTIFY_SOCKET=%s", socket);
        (void)unsetenv("NOTIFY_SOCKET"); /* fails for no valid name */
        while (environ[n])
                n++;
        environment = entry ? calloc(n + 2, sizeof(*environment)) : NULL; /* NULL at the end */
        if (!environment)
                return; /* then nobody is told */
        memcpy(environment, environ, n * sizeof(*environment));
        environment[n] = entry;
}

bool notify_is_on(void)
{
        return environment;
}

/* sd_notify looks into the environment for its socket. Another thread may look into it too, for
 * what the configuration says: it finds there what it always does. */
static void say(const char *state)
{
        char **saved = environ;

        if (!notify_is_on())
                return;
        environ = environment;
        int r = sd_notify(0, state);
        environ = saved;
        if (r < 0)
                log_debug("the service manager was not told '%s': %s", state, strerror(-r));
}

void notify_ready(void)
{
        say("READY=1");
}

void notify_reloading(void)
{
        char state[64];
        struct timespec now;

        (void)clock_gettime(CLOCK_MONOTONIC, &now); /* it is there on every Linux */
        (void)str_format(state, sizeof(state), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
                         (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000); /* fits */
        say(state);
}

void notify_stopping(void)
{
        say("STOPPING=1");
}

void notify_failed(const struct err *e)
{
        char state[STATUS_MAX + 32];
        int errnum = e->errnum ? e->errnum : status_to_errno(e->code);

        (void)str_format(state, sizeof(state), "ERRNO=%d\nSTATUS=%.*s", errnum,
                         (int)strcspn(e->msg, "\n"), e->msg); /* or cut */
        say(state);
}

void notify_status(const char *fmt, ...)
{
        char state[STATUS_MAX] = "STATUS=";
        size_t n = strlen(state);
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(state + n, sizeof(state) - n, fmt, ap); /* or cut */
        va_end(ap);
        say(state);
}

void notify_alive(void)
{
        say("WATCHDOG=1");
}
