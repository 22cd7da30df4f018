#include "daemon/reconcile.h"

#include <errno.h>

#include "base/log.h"
#include "daemon/sandbox.h"

static void recover(struct sandbox *s, const char *reason)
{
        struct err e;

        log_warn("sandbox %s was %s: %s", sandbox_record(s)->id,
                 sandbox_state_name(sandbox_record(s)->state), reason);
        if (sandbox_recover(s, reason, &e) < 0)
                log_error("sandbox %s: %s", sandbox_record(s)->id, e.msg);
}

static void adopt(struct sandbox *s)
{
        struct err e;
        int n = sandbox_adopt(s, &e);

        if (n == 0)
                log_info("sandbox %s is alive", sandbox_record(s)->id);
        else if (n == -ESRCH)
                recover(s, "it ended while sandboxd was away");
        else /* alive or not, we do not know: left alone */
                log_error("sandbox %s cannot be adopted: %s", sandbox_record(s)->id, e.msg);
}

static int on_record(void *data, struct record *record, struct err *e)
{
        struct sandbox *s;

        int n = sandbox_restore(data, record, &s, e);
        if (n < 0) {
                record_done(record);
                return n;
        }
        switch (sandbox_record(s)->state) {
        case SANDBOX_STOPPED:
        case SANDBOX_FAILED:
                break;
        case SANDBOX_RUNNING:
                adopt(s);
                break;
        default:
                recover(s, "sandboxd ended in the middle of the operation");
                break;
        }
        return 0;
}

int reconcile(struct registry *r, struct err *e)
{
        return store_load(r->store, on_record, r, e);
}
