#include "daemon/interceptor.h"

#include "base/id.h"
#include "base/str.h"
#include "base/util.h"
#include "daemon/access.h"
#include "daemon/audit.h"
#include "daemon/image.h"
#include "daemon/metrics.h"
#include "daemon/sandbox.h"
#include "rpc/protowire.h"

#define SANDBOX_ID_FIELD 1  /* of every request that is about a sandbox */
#define IMAGE_FIELD      3  /* of SandboxServiceCreateRequest */
#define NETWORK_FIELD    11 /* likewise */
#define NETWORK_HOSTS    3  /* NETWORK_MODE_HOST of that field */
#define IMAGE_NAME_FIELD 1  /* of every request of ImageService that is about an image */

#define WHERE "roles are given under 'access' in sandboxd's configuration"

/* Whom a method is for. An admin may everything. */
enum audience {
        FOR_ANY_ROLE,  /* where it tells of sandboxes, its handler leaves out what is not to be seen
                        */
        FOR_READERS,   /* of one sandbox: its owner, and observers */
        FOR_OWNER,     /* of one sandbox */
        FOR_CREATORS,  /* users */
        FOR_OBSERVERS, /* of the host as a whole */
        FOR_ADMINS,
        AUDIENCES,
};

static const struct {
        unsigned roles;   /* one of these is needed */
        bool one_sandbox; /* and, but for observers that may only look, to own it */
        const char *words;
} audiences[AUDIENCES] = {
        [FOR_ANY_ROLE] = {ROLE_USER | ROLE_OBSERVER, false, "user, observer or admin"},
        [FOR_READERS] = {ROLE_USER | ROLE_OBSERVER, true, "user, observer or admin"},
        [FOR_OWNER] = {ROLE_USER, true, "user or admin"},
        [FOR_CREATORS] = {ROLE_USER, false, "user or admin"},
        [FOR_OBSERVERS] = {ROLE_OBSERVER, false, "observer or admin"},
        [FOR_ADMINS] = {0, false, "admin"},
};

/* What is said of a method. Rows without a method are fine: a build may lack one. */
struct interceptor_row {
        const char *service, *method;
        enum audience audience;
        bool audited; /* each call leaves a line; a denied one does in any case */
};

#define SANDBOX          "sandboxd.v1.SandboxService"
#define HOST             "sandboxd.v1.HostService"
#define IMAGE            "sandboxd.v1.ImageService"
#define PROCESS          "sandboxd.v1.ProcessService"
#define APP              "sandboxd.v1.AppService"
#define TASK             "sandboxd.v1.TaskService"
#define HEALTH           "grpc.health.v1.Health"
#define REFLECTION       "grpc.reflection.v1.ServerReflection"
#define REFLECTION_ALPHA "grpc.reflection.v1alpha.ServerReflection"

/* What changes something is audited, once a call: SendInput and Resize, of which a terminal makes
 * one for every key, are not, for the Start or Attach before them is. */
static const struct interceptor_row rows[] = {
        {SANDBOX, "Create", FOR_CREATORS, true},
        {SANDBOX, "Get", FOR_READERS, false},
        {SANDBOX, "List", FOR_ANY_ROLE, false},
        {SANDBOX, "Start", FOR_OWNER, true},
        {SANDBOX, "Stop", FOR_OWNER, true},
        {SANDBOX, "Pause", FOR_OWNER, true},
        {SANDBOX, "Resume", FOR_OWNER, true},
        {SANDBOX, "Delete", FOR_OWNER, true},
        {SANDBOX, "Keepalive", FOR_OWNER, true},
        {SANDBOX, "Wait", FOR_READERS, false},
        {SANDBOX, "Stats", FOR_READERS, false},
        {SANDBOX, "Watch", FOR_READERS, false},
        {HOST, "Info", FOR_ANY_ROLE, false},
        {HOST, "Metrics", FOR_OBSERVERS, false},
        {HOST, "Doctor", FOR_ADMINS, true},
        {HOST, "Reload", FOR_ADMINS, true},
        {HOST, "Drain", FOR_ADMINS, true},
        {IMAGE, "Import", FOR_ADMINS, true},
        {IMAGE, "List", FOR_ANY_ROLE, false},
        {IMAGE, "Remove", FOR_ADMINS, true},
        {PROCESS, "Start", FOR_OWNER, true},
        {PROCESS, "Attach", FOR_OWNER, true},
        {PROCESS, "List", FOR_OWNER, false},
        {PROCESS, "SendInput", FOR_OWNER, false},
        {PROCESS, "StreamInput", FOR_OWNER, true},
        {PROCESS, "CloseStdin", FOR_OWNER, true},
        {PROCESS, "Signal", FOR_OWNER, true},
        {PROCESS, "Resize", FOR_OWNER, false},
        {PROCESS, "Wait", FOR_OWNER, false},
        {APP, "Status", FOR_OWNER, false},
        {APP, "Restart", FOR_OWNER, true},
        {APP, "Wait", FOR_OWNER, false},
        {APP, "Build", FOR_OWNER, true},
        {TASK, "Start", FOR_OWNER, true},
        {TASK, "Get", FOR_OWNER, false},
        {TASK, "List", FOR_OWNER, false},
        {TASK, "Events", FOR_OWNER, false},
        {TASK, "Cancel", FOR_OWNER, true},
        {TASK, "Revert", FOR_OWNER, true},
        {HEALTH, "Check", FOR_ANY_ROLE, false},
        {HEALTH, "List", FOR_ANY_ROLE, false},
        {HEALTH, "Watch", FOR_ANY_ROLE, false},
        {REFLECTION, "ServerReflectionInfo", FOR_ANY_ROLE, false},
        {REFLECTION_ALPHA, "ServerReflectionInfo", FOR_ANY_ROLE, false},
};

/* NULL: a method that the server does not know. */
static const struct interceptor_row *row_of(const struct interceptor *i,
                                            const struct rpc_call *call)
{
        const struct rpc_service *service = rpc_call_service(call);

        for (size_t s = 0; service && s < i->n; s++)
                if (i->services[s] == service)
                        return i->rows[s][rpc_call_method(call) - service->methods];
        return NULL;
}

/* --- whether its caller may ------------------------------------------------------------------ */

static int deny_role(const struct rpc_call *call, const char *what, const char *needed,
                     struct err *e)
{
        char roles[ROLES_TEXT_MAX];

        return err_set(e, STATUS_PERMISSION_DENIED,
                       "%s needs the role %s; uid %u has %s (" WHERE ")", what, needed,
                       rpc_call_peer(call)->uid, access_roles_text(rpc_call_rights(call), roles));
}

/* Neither its id nor its name is told, but what the caller knows. */
static int deny_foreign(const struct interceptor_row *row, const char *ref, size_t n, struct err *e)
{
        char shown[4 * NAME_MAX_LEN + 1];

        return err_set(e, STATUS_PERMISSION_DENIED,
                       "sandbox '%s' is another user's: %s is for its owner%s and the role admin "
                       "(" WHERE ")",
                       str_escape(shown, sizeof(shown), ref, n), row->method,
                       row->audience == FOR_READERS ? ", the role observer" : "");
}

/* What the handler will find it finds too, for both run in the same turn of the loop, and the last
 * of several values counts for both. What it does not find the handler refuses in its own words;
 * so does Watch, which may ask for what was deleted, and is shown no other's events. */
static int admit_sandbox(const struct interceptor *i, const struct interceptor_row *row,
                         struct rpc_call *call, const uint8_t *message, size_t n, struct err *e)
{
        const uint8_t *ref;
        size_t ref_len;
        struct sandbox *s;

        if (!protowire_find(message, n, SANDBOX_ID_FIELD, &ref, &ref_len))
                return err_set(e, STATUS_INVALID_ARGUMENT, "the request is malformed");
        if (registry_resolve(i->registry, (const char *)ref, ref_len, &s, NULL) < 0)
                return 0;
        const struct record *rec = sandbox_record(s);
        rpc_call_set_subject(call, rec->id);
        bool may = row->audience == FOR_READERS ? access_may_see(call, rec->owner)
                                                : access_may_use(call, rec->owner);
        return may ? 0 : deny_foreign(row, (const char *)ref, ref_len, e);
}

/* A directory of the host as the image: whoever names one can read it. */
static int admit_image(struct rpc_call *call, const uint8_t *message, size_t n, struct err *e)
{
        const uint8_t *image;
        size_t image_len;

        if (!protowire_find(message, n, IMAGE_FIELD, &image, &image_len))
                return err_set(e, STATUS_INVALID_ARGUMENT, "the request is malformed");
        if (image_len == 0 || image[0] != '/' || rpc_call_rights(call) & ROLE_ADMIN)
                return 0;
        return deny_role(call, "image: a directory of the host", audiences[FOR_ADMINS].words, e);
}

/* The last value counts, as for a decoder. */
static bool asks_for_host_network(const uint8_t *message, size_t n)
{
        struct protowire_field field;
        uint64_t mode = 0;

        while (protowire_next(&message, &n, &field))
                if (field.number == NETWORK_FIELD && field.type == PROTOBUF_C_WIRE_TYPE_VARINT)
                        mode = field.value;
        return (int32_t)mode == NETWORK_HOSTS;
}

/* Whoever has the host's network has all that it serves itself. */
static int admit_create(struct rpc_call *call, const uint8_t *message, size_t n, struct err *e)
{
        int r = admit_image(call, message, n, e);

        if (r < 0 || rpc_call_rights(call) & ROLE_ADMIN || !asks_for_host_network(message, n))
                return r;
        return deny_role(call, "network: the host's own", audiences[FOR_ADMINS].words, e);
}

/* For the audit. What is no name the handler refuses. */
static void tell_image(struct rpc_call *call, const uint8_t *message, size_t n)
{
        char name[IMAGE_NAME_MAX + 1];
        const uint8_t *bytes;
        size_t len;

        if (protowire_find(message, n, IMAGE_NAME_FIELD, &bytes, &len) && bytes &&
            str_format(name, sizeof(name), "%.*s", (int)MIN(len, sizeof(name)), (char *)bytes) &&
            image_name_is_valid(name))
                rpc_call_set_subject(call, name);
}

static int admit(void *ctx, struct rpc_call *call, const uint8_t *message, size_t n, struct err *e)
{
        const struct interceptor *i = ctx;
        const struct interceptor_row *row = row_of(i, call);
        unsigned roles = access_roles(&i->registry->config->access, rpc_call_peer(call));

        rpc_call_set_rights(call, roles);
        if (str_eq(row->service, IMAGE))
                tell_image(call, message, n);
        if (!(roles & (audiences[row->audience].roles | ROLE_ADMIN)))
                return deny_role(call, row->method, audiences[row->audience].words, e);
        if (audiences[row->audience].one_sandbox)
                return admit_sandbox(i, row, call, message, n, e);
        return row->audience == FOR_CREATORS ? admit_create(call, message, n, e) : 0;
}

/* --- what is told of it ---------------------------------------------------------------------- */

static void on_end(void *ctx, const struct rpc_call *call, enum status code, const struct err *e)
{
        const struct interceptor_row *row = row_of(ctx, call);

        (void)e;
        metrics_count_call(call, code);
        if (row && (row->audited || code == STATUS_PERMISSION_DENIED))
                audit_call(call, str_eq(row->service, IMAGE) ? AUDIT_IMAGE : AUDIT_SANDBOX, code);
}

/* --- installing ------------------------------------------------------------------------------ */

static const struct interceptor_row *find_row(const char *service, const char *method)
{
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                if (str_eq(rows[i].service, service) && str_eq(rows[i].method, method))
                        return &rows[i];
        return NULL;
}

static int add_service(struct interceptor *i, const struct rpc_service *service, struct err *e)
{
        if (i->n == INTERCEPTOR_SERVICES_MAX || service->n_methods > INTERCEPTOR_METHODS_MAX)
                return err_set(e, STATUS_INTERNAL, "the interceptor has no room for %s",
                               service->name);
        for (size_t m = 0; m < service->n_methods; m++) {
                const char *method = service->methods[m].name;
                i->rows[i->n][m] = find_row(service->name, method);
                if (!i->rows[i->n][m])
                        return err_set(e, STATUS_INTERNAL,
                                       "nothing says who may call %s/%s: it needs a row in "
                                       "daemon/interceptor.c",
                                       service->name, method);
        }
        i->services[i->n++] = service;
        return 0;
}

int interceptor_install(struct interceptor *i, struct rpc_server *server, struct registry *r,
                        struct err *e)
{
        static const struct rpc_interceptor interceptor = {.admit = admit, .on_end = on_end};
        const struct rpc_service *service;

        *i = (struct interceptor){.registry = r};
        for (size_t s = 0; (service = rpc_server_service(server, s)); s++) {
                int k = add_service(i, service, e);
                if (k < 0)
                        return k;
        }
        rpc_server_intercept(server, &interceptor, i);
        return 0;
}
