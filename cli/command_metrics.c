#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/util.h"
#include "cli/command.h"
#include "cli/exporter.h"
#include "cli/output.h"
#include "methods.h"
#include "sandboxd/v1/host.pb-c.h"

static int print_metrics(struct session *s, const struct options *o)
{
        Sandboxd__V1__HostServiceMetricsRequest request =
                SANDBOXD__V1__HOST_SERVICE_METRICS_REQUEST__INIT;
        struct err e;

        if (session_connect(s, &e) < 0) {
                complain("%s", e.msg);
                return EXIT_UNREACHABLE;
        }
        const Sandboxd__V1__HostServiceMetricsResponse *reply =
                session_call(s, &host_service, HOST_SERVICE_METRICS, &request.base, &e);
        if (!reply)
                return call_failed(s, &e);
        if (o->json)
                return printed(print_json(json_pack("{s:s, s:s}", "text", reply->text,
                                                    "content_type", reply->content_type),
                                          stdout));
        (void)fputs(reply->text, stdout); /* main looks at the stream */
        return EXIT_OK;
}

/* What talks to a network needs to reach the daemon's socket, and nothing else: no capabilities,
 * now or ever again. */
static int give_up_privileges(struct err *e)
{
        struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct held[_LINUX_CAPABILITY_U32S_3];
        static const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3];

        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || syscall(SYS_capget, &header, held) < 0)
                return err_errno(e, errno, "give up privileges");
        /* A service that has none may be forbidden the call. */
        if (memcmp(held, none, sizeof(held)) != 0 && syscall(SYS_capset, &header, none) < 0)
                return err_errno(e, errno, "give up capabilities");
        return 0;
}

static int serve(struct session *s, const struct options *o)
{
        uint64_t answer_ms = MIN(o->timeout_ms ? o->timeout_ms : UINT32_MAX, EXPORTER_ANSWER_MS);
        char where[LISTEN_TEXT_MAX];
        struct err e;

        /* A login for each scrape would hold up the others, and needs what is given up here. */
        if (refuse_ssh(s, "metrics --listen") != EXIT_OK)
                return EXIT_USAGE;
        int fd = listen_open(&o->listen, &e);
        int r = fd < 0 ? fd : give_up_privileges(&e);
        if (r == 0) {
                listen_name(fd, where);
                (void)printf("http://%s/metrics\n", where); /* main looks at the stream */
                (void)fflush(stdout);
                r = exporter_run(s, TAKE_FD(fd), answer_ms, &e);
        }
        if (fd >= 0)
                (void)close(fd); /* nothing was written */
        if (r < 0)
                complain("%s", e.msg);
        return r < 0 ? EXIT_REFUSED : EXIT_OK;
}

int command_metrics(struct session *s, const struct options *o, char **operands)
{
        (void)operands;
        return o->given & OPTION(LISTEN) ? serve(s, o) : print_metrics(s, o);
}
