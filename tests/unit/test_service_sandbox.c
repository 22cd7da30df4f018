/* daemon/service_sandbox*.c over sandboxes, a registry and a store of the test's own: what is asked
 * for, what is answered, and what a slow client gets. */
#include "tests/unit/fake_sandboxes.h"
#include "tests/unit/rpc_calls.h"

#include "daemon/access.h"
#include "daemon/service_sandbox.h"
#include "methods.h"
#include "sandboxd/v1/sandbox.pb-c.h"

#define STATE(name) SANDBOXD__V1__SANDBOX_STATE__SANDBOX_STATE_##name

static struct watch_hub hub;
static struct service_sandbox service;

/* Of every call; who owns what is seen, or not, is this process's user. */
static unsigned roles;

static int admit(void *ctx, struct rpc_call *call, const uint8_t *message, size_t n, struct err *e)
{
        (void)ctx, (void)message, (void)n, (void)e;
        rpc_call_set_rights(call, roles);
        return 0;
}

static int setup(void **state)
{
        static const struct rpc_interceptor interceptor = {.admit = admit};

        roles = ROLE_ADMIN;
        if (rpc_fixture_setup(state) != 0)
                return -1;
        struct rpc_fixture *f = *state;
        loop = &f->l.loop;
        n_reads = 0;
        asked = (struct asked){.what = ""};
        store = (struct store){.events = calloc(MANY + 1, sizeof(struct event))};
        assert_non_null(store.events);
        watch_hub_init(&hub, &store);
        rpc_server_intercept(f->server, &interceptor, NULL);
        return service_sandbox_add(&service, f->server, &registry, &hub, NULL);
}

static int teardown(void **state)
{
        service_sandbox_stop(&service);
        if (rpc_fixture_teardown(state) != 0)
                return -1;
        assert_int_equal(hub.n, 0);
        assert_int_equal(service.n_watches, 0);
        assert_int_equal(service.n_waits, 0);
        while (n_sandboxes > 0) {
                assert_true(LIST_EMPTY(&sandboxes[n_sandboxes - 1]->observers));
                remove_last_sandbox();
        }
        free(store.events);
        return 0;
}

/* --- clients --------------------------------------------------------------------------------- */

static void call_with(struct rpc_client *c, int method, const ProtobufCMessage *message,
                      const struct rpc_reply_ops *ops, void *data)
{
        uint8_t bytes[1024];

        assert_true(protobuf_c_message_get_packed_size(message) <= sizeof(bytes));
        const struct rpc_request request = {
                .service = &sandbox_service,
                .method = &sandbox_service.methods[method],
                .message = bytes,
                .n = protobuf_c_message_pack(message, bytes),
        };
        assert_int_equal(rpc_client_call(c, &request, ops, data, NULL, NULL), 0);
}

/* For requests that name a sandbox and nothing else, which all have the same shape. */
static void call_on(struct rpc_client *c, int method, const char *id, struct reply *r)
{
        Sandboxd__V1__SandboxServiceGetRequest request =
                SANDBOXD__V1__SANDBOX_SERVICE_GET_REQUEST__INIT;

        request.sandbox_id = (char *)id;
        call_with(c, method, &request.base, &reply_ops, r);
}

static void *unpack(const ProtobufCMessageDescriptor *type, const struct reply *r)
{
        ProtobufCMessage *m = protobuf_c_message_unpack(type, NULL, r->last_len, r->last);

        assert_non_null(m);
        return m;
}

static void free_message(void *m)
{
        protobuf_c_message_free_unpacked(m, NULL);
}

/* What a watch was told. Sandboxes and events come in order and once. */
struct told {
        unsigned n_sandboxes, n_done;
        char last_id[ID_LEN + 1];
        uint64_t first, last; /* events */
        bool synced;
        uint64_t synced_at;
        struct err err;
};

static void on_item(void *data, const uint8_t *bytes, size_t n)
{
        struct told *t = data;
        Sandboxd__V1__SandboxServiceWatchResponse *m =
                sandboxd__v1__sandbox_service_watch_response__unpack(NULL, n, bytes);

        assert_non_null(m);
        switch (m->item_case) {
        case SANDBOXD__V1__SANDBOX_SERVICE_WATCH_RESPONSE__ITEM_SANDBOX:
                assert_false(t->synced || t->last);
                assert_true(strcmp(m->sandbox->id, t->last_id) > 0);
                assert_true(str_format(t->last_id, sizeof(t->last_id), "%s", m->sandbox->id));
                t->n_sandboxes++;
                break;
        case SANDBOXD__V1__SANDBOX_SERVICE_WATCH_RESPONSE__ITEM_SYNCED:
                assert_false(t->synced);
                t->synced = true;
                t->synced_at = m->synced->sequence;
                break;
        case SANDBOXD__V1__SANDBOX_SERVICE_WATCH_RESPONSE__ITEM_EVENT:
                if (t->last)
                        assert_int_equal(m->event->sequence, t->last + 1);
                else
                        t->first = m->event->sequence;
                t->last = m->event->sequence;
                break;
        default:
                fail_msg("item %d", (int)m->item_case);
        }
        free_message(m);
}

static void on_watch_done(void *data, const struct err *e, const uint8_t *details, size_t n)
{
        struct told *t = data;

        (void)details, (void)n;
        t->n_done++;
        t->err = e ? *e : (struct err){0};
}

static void watch(struct rpc_client *c, uint64_t from, const char *id, bool until_now,
                  struct told *t)
{
        static const struct rpc_reply_ops ops = {.on_message = on_item, .on_done = on_watch_done};
        Sandboxd__V1__SandboxServiceWatchRequest request =
                SANDBOXD__V1__SANDBOX_SERVICE_WATCH_REQUEST__INIT;

        request.from_sequence = from;
        request.sandbox_id = (char *)id;
        request.until_now = until_now;
        call_with(c, SANDBOX_SERVICE_WATCH, &request.base, &ops, t);
}

static void wait_for(struct rpc_client *c, const char *id, int state, struct reply *r)
{
        Sandboxd__V1__SandboxServiceWaitRequest request =
                SANDBOXD__V1__SANDBOX_SERVICE_WAIT_REQUEST__INIT;
        Sandboxd__V1__SandboxState states[] = {(Sandboxd__V1__SandboxState)state};

        request.sandbox_id = (char *)id;
        request.states = states;
        request.n_states = state != 0;
        call_with(c, SANDBOX_SERVICE_WAIT, &request.base, &reply_ops, r);
}

/* --- watch ----------------------------------------------------------------------------------- */

static void snapshot_then_events(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct told t = {0};

        add_sandbox(1);
        add_sandbox(2);
        commit("");
        commit("");
        watch(c, 0, "", false, &t);
        LOOP_UNTIL(&f->l, t.synced);
        assert_int_equal(t.n_sandboxes, 2);
        assert_int_equal(t.synced_at, 2);
        commit("");
        LOOP_UNTIL(&f->l, t.last == 3);
        assert_int_equal(t.first, 3);
        rpc_client_close(c);
        LOOP_UNTIL(&f->l, service.n_watches == 0);
}

static void of_one_sandbox(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct told one = {0}, none = {0}, bad = {0};

        add_sandbox(1);
        const char *id = add_sandbox(2)->rec.id;
        watch(c, 0, id, true, &one);
        watch(c, 0, "00000000000000000000000009", true, &none);
        watch(c, 0, "2", true, &bad);
        LOOP_UNTIL(&f->l, one.n_done && none.n_done && bad.n_done);
        assert_int_equal(one.n_sandboxes, 1);
        assert_string_equal(one.last_id, id);
        assert_true(one.synced && none.synced);
        assert_int_equal(one.err.code, STATUS_OK);
        assert_int_equal(none.n_sandboxes, 0);
        assert_int_equal(bad.err.code, STATUS_INVALID_ARGUMENT);
        rpc_client_close(c);
}

/* A client that does not read holds up the walk, which goes on where it was. Meanwhile a sandbox
 * has come, and the one that was to come last has gone. */
static void slow_reader_of_a_snapshot(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct told t = {0};

        for (unsigned i = 1; i < MANY; i++)
                fill_reason(add_sandbox(i)->rec.reason);
        watch(c, 0, "", false, &t);
        LOOP_UNTIL(&f->l, t.n_sandboxes > 0);
        rpc_client_pause(c);
        loop_run_for(&f->l, 50);
        unsigned before = t.n_sandboxes;
        assert_true(before < MANY - 1);
        remove_last_sandbox();
        add_sandbox(MANY);
        add_sandbox(MANY + 1);
        commit("");
        loop_run_for(&f->l, 50);
        assert_int_equal(t.n_sandboxes, before);
        rpc_client_resume(c);
        LOOP_UNTIL(&f->l, t.synced);
        assert_int_equal(t.n_sandboxes, MANY);
        assert_int_equal(t.first, 1);
        rpc_client_close(c);
}

/* What a client does not read is read again from the store: each event once. */
static void slow_reader_of_events(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct told t = {0};

        watch(c, 1, "", false, &t);
        LOOP_UNTIL(&f->l, t.synced);
        rpc_client_pause(c);
        for (unsigned i = 0; i < MANY / 2; i++) {
                commit("");
                if (i % 100 == 0)
                        loop_run_for(&f->l, 1);
        }
        assert_int_equal(t.last, 0);
        assert_int_equal(n_reads, 1);
        rpc_client_resume(c);
        LOOP_UNTIL(&f->l, t.last > 100);
        while (store.last < MANY)
                commit("");
        LOOP_UNTIL(&f->l, t.last == MANY);
        assert_int_equal(t.first, 1);
        assert_true(n_reads > 1); /* it was behind */
        rpc_client_close(c);
}

static void until_now(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct told t = {0}, beyond = {0};

        for (unsigned i = 0; i < MANY; i++)
                commit("");
        watch(c, 1, "", true, &t);
        watch(c, MANY + 2, "", true, &beyond);
        LOOP_UNTIL(&f->l, t.n_done && beyond.n_done);
        assert_true(t.synced);
        assert_int_equal(t.err.code, STATUS_OK);
        assert_int_equal(t.last, MANY);
        assert_int_equal(t.n_sandboxes, 0);
        assert_int_equal(beyond.err.code, STATUS_OUT_OF_RANGE);
        rpc_client_close(c);
}

/* --- wait ------------------------------------------------------------------------------------ */

static void wait_until_it_stops(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct sandbox *s = add_sandbox(1);
        struct reply waiting = {0}, at_once = {0};

        wait_for(c, s->rec.id, 0, &waiting);
        wait_for(c, s->rec.id, STATE(RUNNING), &at_once);
        LOOP_UNTIL(&f->l, at_once.n_done);
        assert_int_equal(service.n_waits, 1);
        change(s, SANDBOX_STOPPING);
        change(s, SANDBOX_STOPPED);
        LOOP_UNTIL(&f->l, waiting.n_done);
        Sandboxd__V1__SandboxServiceWaitResponse *m =
                unpack(&sandboxd__v1__sandbox_service_wait_response__descriptor, &waiting);
        assert_int_equal(m->sandbox->state, STATE(STOPPED));
        free_message(m);
        reply_done(&waiting);
        reply_done(&at_once);
        rpc_client_close(c);
}

static void wait_for_what_goes(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct sandbox *s = add_sandbox(1);
        struct reply r = {0};
        struct err e;

        wait_for(c, s->rec.id, STATE(PAUSED), &r);
        LOOP_UNTIL(&f->l, service.n_waits == 1);
        (void)err_set(&e, STATUS_NOT_FOUND, "it was deleted");
        struct sandbox_observer *o = LIST_FIRST(&s->observers);
        LIST_REMOVE(o, entry);
        o->on_change(o, NULL, &e);
        LOOP_UNTIL(&f->l, r.n_done);
        assert_int_equal(r.err.code, STATUS_NOT_FOUND);
        rpc_client_close(c);
}

static void wait_that_is_given_up(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct sandbox *s = add_sandbox(1);
        struct reply r = {0};

        wait_for(c, s->rec.id, 0, &r);
        LOOP_UNTIL(&f->l, service.n_waits == 1);
        rpc_client_close(c);
        LOOP_UNTIL(&f->l, service.n_waits == 0);
        assert_true(LIST_EMPTY(&s->observers));
}

static void wait_for_no_state(void **state)
{
        static const int bad[] = {-1, 9, 99};
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        const char *id = add_sandbox(1)->rec.id;

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                struct reply r = {0};
                wait_for(c, id, bad[i], &r);
                LOOP_UNTIL(&f->l, r.n_done);
                assert_int_equal(r.err.code, STATUS_INVALID_ARGUMENT);
        }
        rpc_client_close(c);
}

/* --- bounds, and the end --------------------------------------------------------------------- */

static void only_so_many(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        const char *id = add_sandbox(1)->rec.id;
        struct reply r = {0};
        struct told t = {0};

        service.n_waits = SERVICE_SANDBOX_WAITS_MAX;
        service.n_watches = WATCHERS_MAX;
        wait_for(c, id, 0, &r);
        watch(c, 0, "", false, &t);
        LOOP_UNTIL(&f->l, r.n_done && t.n_done);
        assert_int_equal(r.err.code, STATUS_RESOURCE_EXHAUSTED);
        assert_int_equal(t.err.code, STATUS_RESOURCE_EXHAUSTED);
        service.n_waits = service.n_watches = 0;
        rpc_client_close(c);
}

static void stop(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        const char *id = add_sandbox(1)->rec.id;
        struct reply waits[2] = {{0}};
        struct told watches[3] = {{0}};

        wait_for(c, id, 0, &waits[0]);
        watch(c, 0, "", false, &watches[0]);
        LOOP_UNTIL(&f->l, watches[0].synced);
        watch(c, 1, "", false, &watches[1]); /* a page is under way when the stop comes */
        LOOP_UNTIL(&f->l, service.n_watches == 2);
        service_sandbox_stop(&service);
        service_sandbox_stop(&service);
        wait_for(c, id, 0, &waits[1]);
        watch(c, 0, "", false, &watches[2]);
        LOOP_UNTIL(&f->l, waits[0].n_done && waits[1].n_done && watches[0].n_done &&
                                  watches[1].n_done && watches[2].n_done);
        for (size_t i = 0; i < ARRAY_SIZE(waits); i++)
                assert_int_equal(waits[i].err.code, STATUS_UNAVAILABLE);
        for (size_t i = 0; i < ARRAY_SIZE(watches); i++)
                assert_int_equal(watches[i].err.code, STATUS_UNAVAILABLE);
        rpc_client_close(c);
}

/* --- operations ------------------------------------------------------------------------------ */

static void create_with(struct rpc_client *c, const char *key, int expiry, struct reply *r)
{
        Sandboxd__V1__SandboxServiceCreateRequest request =
                SANDBOXD__V1__SANDBOX_SERVICE_CREATE_REQUEST__INIT;

        Sandboxd__V1__Dns dns = SANDBOXD__V1__DNS__INIT;
        char *server = (char *)"10.0.0.1", *option = (char *)"rotate";

        dns.servers = &server;
        dns.options = &option;
        dns.n_servers = dns.n_options = 1;
        request.dns = &dns;
        Sandboxd__V1__Egress egress = SANDBOXD__V1__EGRESS__INIT;
        egress.policy = SANDBOXD__V1__EGRESS_POLICY__EGRESS_POLICY_CLOSED;
        request.network = SANDBOXD__V1__NETWORK_MODE__NETWORK_MODE_BRIDGE;
        request.egress = &egress;
        request.rootfs = SANDBOXD__V1__ROOTFS_MODE__ROOTFS_MODE_OVERLAY;
        request.request_key = (char *)key;
        request.workspace = (char *)"w";
        request.ttl_millis = 5000;
        request.expiry_action = (Sandboxd__V1__ExpiryAction)expiry;
        call_with(c, SANDBOX_SERVICE_CREATE, &request.base, &reply_ops, r);
}

static void create_passes_on(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct reply good = {0}, bad = {0};

        create_with(c, "k", SANDBOXD__V1__EXPIRY_ACTION__EXPIRY_ACTION_DELETE, &good);
        create_with(c, "k", 3, &bad);
        LOOP_UNTIL(&f->l, bad.n_done);
        assert_int_equal(bad.err.code, STATUS_INVALID_ARGUMENT);
        assert_string_equal(asked.what, "create");
        assert_string_equal(asked.key, "k");
        assert_string_equal(asked.workspace_of, "w");
        assert_int_equal(asked.owner, getuid());
        assert_int_equal(asked.ttl_ms, 5000);
        assert_int_equal(asked.expiry, EXPIRY_DELETE);
        assert_string_equal(asked.dns[0], "10.0.0.1");
        assert_string_equal(asked.dns[1], "");
        assert_string_equal(asked.dns[2], "rotate");
        assert_true(asked.network_given);
        assert_int_equal(asked.network, NETWORK_BRIDGE);
        assert_string_equal(asked.egress, "closed");
        assert_true(asked.rootfs_given);
        assert_int_equal(asked.rootfs, ROOTFS_OVERLAY);
        asked.done(asked.data, add_sandbox(1), NULL);
        LOOP_UNTIL(&f->l, good.n_done);
        assert_int_equal(good.err.code, STATUS_OK);
        reply_done(&good);
        rpc_client_close(c);
}

/* A create whose client has gone is taken back, unless it can be asked for again. */
static void create_without_its_client(void **state)
{
        struct rpc_fixture *f = *state;

        for (unsigned with_key = 0; with_key < 2; with_key++) {
                struct rpc_client *c = client_new(f, NULL);
                struct sandbox *s = add_sandbox(1 + with_key);
                struct reply r = {0};
                (void)str_format(s->rec.request_key, sizeof(s->rec.request_key), "%s",
                                 with_key ? "k" : ""); /* fits */
                asked = (struct asked){.what = ""};
                create_with(c, s->rec.request_key, 0, &r);
                LOOP_UNTIL(&f->l, asked.done);
                rpc_client_close(c);
                loop_run_for(&f->l, 20);
                asked.done(asked.data, s, NULL);
                assert_int_equal(asked.undone, !with_key);
        }
}

static void list(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct reply r = {0};

        add_sandbox(1);
        add_sandbox(2);
        call_on(c, SANDBOX_SERVICE_LIST, "", &r);
        LOOP_UNTIL(&f->l, r.n_done);
        Sandboxd__V1__SandboxServiceListResponse *m =
                unpack(&sandboxd__v1__sandbox_service_list_response__descriptor, &r);
        assert_int_equal(m->n_sandboxes, 2);
        assert_string_equal(m->sandboxes[1]->id, sandboxes[1]->rec.id);
        free_message(m);
        reply_done(&r);
        rpc_client_close(c);
}

static void operations(void **state)
{
        static const struct {
                int method;
                const char *what;
        } cases[] = {
                {SANDBOX_SERVICE_START, "start"},         {SANDBOX_SERVICE_STOP, "stop"},
                {SANDBOX_SERVICE_PAUSE, "pause"},         {SANDBOX_SERVICE_RESUME, "resume"},
                {SANDBOX_SERVICE_KEEPALIVE, "keepalive"},
        };
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct sandbox *s = add_sandbox(1);

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct reply good = {0}, bad = {0};
                asked = (struct asked){.what = ""};
                call_on(c, cases[i].method, s->rec.id, &good);
                LOOP_UNTIL(&f->l, asked.done);
                assert_string_equal(asked.what, cases[i].what);
                asked.done(asked.data, s, NULL);
                call_on(c, cases[i].method, "nobody", &bad);
                LOOP_UNTIL(&f->l, good.n_done && bad.n_done);
                assert_int_equal(good.err.code, STATUS_OK);
                assert_int_equal(bad.err.code, STATUS_NOT_FOUND);
                reply_done(&good);
        }
        rpc_client_close(c);
}

static void keepalive_for_ever_and_for_a_time(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        Sandboxd__V1__SandboxServiceKeepaliveRequest request =
                SANDBOXD__V1__SANDBOX_SERVICE_KEEPALIVE_REQUEST__INIT;
        struct reply r = {0};

        request.sandbox_id = add_sandbox(1)->rec.id;
        request.forever = true;
        request.ttl_millis = 1000;
        call_with(c, SANDBOX_SERVICE_KEEPALIVE, &request.base, &reply_ops, &r);
        LOOP_UNTIL(&f->l, r.n_done);
        assert_int_equal(r.err.code, STATUS_INVALID_ARGUMENT);
        assert_string_equal(asked.what, "");
        rpc_client_close(c);
}

static void delete_tells_where_the_workspace_is(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        Sandboxd__V1__SandboxServiceDeleteRequest request =
                SANDBOXD__V1__SANDBOX_SERVICE_DELETE_REQUEST__INIT;

        request.sandbox_id = add_sandbox(1)->rec.id;
        for (unsigned keep = 0; keep < 2; keep++) {
                struct reply r = {0};
                asked = (struct asked){.what = ""};
                request.keep_workspace = keep;
                call_with(c, SANDBOX_SERVICE_DELETE, &request.base, &reply_ops, &r);
                LOOP_UNTIL(&f->l, asked.done);
                assert_int_equal(asked.keep, keep);
                asked.done(asked.data, NULL, NULL);
                LOOP_UNTIL(&f->l, r.n_done);
                Sandboxd__V1__SandboxServiceDeleteResponse *m =
                        unpack(&sandboxd__v1__sandbox_service_delete_response__descriptor, &r);
                assert_string_equal(m->workspace_path,
                                    keep ? "/kept/00000000000000000000000001" : "");
                free_message(m);
                reply_done(&r);
        }
        rpc_client_close(c);
}

static void stats(void **state)
{
        const struct stats measured = {
                .usage = {.cpu_nanos = 1, .pids = 2}, .workspace = 3, .at = 1500};
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct sandbox *s = add_sandbox(1);
        struct reply r = {0};

        s->rec.state = SANDBOX_PAUSED;
        call_on(c, SANDBOX_SERVICE_STATS, s->rec.id, &r);
        LOOP_UNTIL(&f->l, asked.measured);
        assert_true(asked.alive);
        remove_last_sandbox(); /* it may go meanwhile */
        asked.measured(asked.data, &measured, NULL);
        LOOP_UNTIL(&f->l, r.n_done);
        Sandboxd__V1__SandboxServiceStatsResponse *m =
                unpack(&sandboxd__v1__sandbox_service_stats_response__descriptor, &r);
        assert_int_equal(m->stats->cpu_nanos, 1);
        assert_int_equal(m->stats->pids, 2);
        assert_int_equal(m->stats->pids_limit, 64);
        assert_int_equal(m->stats->memory_limit_bytes, 1024);
        assert_int_equal(m->stats->workspace_bytes, 3);
        assert_int_equal(m->stats->at->nanos, 500000000);
        free_message(m);
        reply_done(&r);
        rpc_client_close(c);
}

static void every_field(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct sandbox *s = add_sandbox(1);
        struct reply r = {0};

        memcpy(s->rec.reason, "cut \xC3", sizeof("cut \xC3"));
        s->rec.op = (struct operation){
                .kind = OPERATION_PAUSE, .step = "runtime", .started_at = 1000, .deadline = 2000};
        s->rec.exit = (struct exit_info){.cause = EXIT_OUT_OF_MEMORY, .signal = 9, .at = 3000};
        s->rec.owner = 7;
        s->rec.generation = 8;
        s->rec.expires_at = 4000;
        s->rec.ttl_ms = 9;
        s->rec.expiry = EXPIRY_DELETE;
        call_on(c, SANDBOX_SERVICE_GET, s->rec.id, &r);
        LOOP_UNTIL(&f->l, r.n_done);
        Sandboxd__V1__SandboxServiceGetResponse *m =
                unpack(&sandboxd__v1__sandbox_service_get_response__descriptor, &r);
        const Sandboxd__V1__Sandbox *got = m->sandbox;
        assert_string_equal(got->reason, "cut \\xc3"); /* UTF-8, whatever it was */
        assert_int_equal(got->operation->kind, SANDBOXD__V1__OPERATION_KIND__OPERATION_KIND_PAUSE);
        assert_string_equal(got->operation->step, "runtime");
        assert_int_equal(got->operation->deadline->seconds, 2);
        assert_int_equal(got->operation->waiting, 2);
        assert_int_equal(got->exit->cause, SANDBOXD__V1__EXIT_CAUSE__EXIT_CAUSE_OUT_OF_MEMORY);
        assert_int_equal(got->exit->signal, 9);
        assert_int_equal(got->owner_uid, 7);
        assert_int_equal(got->generation, 8);
        assert_int_equal(got->expires_at->seconds, 4);
        assert_int_equal(got->ttl_millis, 9);
        assert_int_equal(got->expiry_action, SANDBOXD__V1__EXPIRY_ACTION__EXPIRY_ACTION_DELETE);
        assert_null(got->started_at);
        free_message(m);
        reply_done(&r);
        rpc_client_close(c);
}

/* --- who sees what
 * --------------------------------------------------------------------------- */

static size_t listed(struct rpc_fixture *f, struct rpc_client *c)
{
        struct reply r = {0};

        call_on(c, SANDBOX_SERVICE_LIST, "", &r);
        LOOP_UNTIL(&f->l, r.n_done);
        Sandboxd__V1__SandboxServiceListResponse *m =
                unpack(&sandboxd__v1__sandbox_service_list_response__descriptor, &r);
        size_t n = m->n_sandboxes;
        free_message(m);
        reply_done(&r);
        return n;
}

/* How many variables Get shows. */
static size_t variables(struct rpc_fixture *f, struct rpc_client *c, const char *id)
{
        struct reply r = {0};

        call_on(c, SANDBOX_SERVICE_GET, id, &r);
        LOOP_UNTIL(&f->l, r.n_done);
        Sandboxd__V1__SandboxServiceGetResponse *m =
                unpack(&sandboxd__v1__sandbox_service_get_response__descriptor, &r);
        size_t n = m->sandbox->n_env;
        free_message(m);
        reply_done(&r);
        return n;
}

static void get_shows_own_dns(void **state)
{
        static char *servers[] = {(char *)"10.0.0.1", (char *)"2001:db8::1", NULL};
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct sandbox *s = add_sandbox(1);

        roles = ROLE_ADMIN;
        for (int i = 0; i < 2; i++) {
                struct reply r = {0};
                s->rec.dns.servers = i ? servers : NULL;
                call_on(c, SANDBOX_SERVICE_GET, s->rec.id, &r);
                LOOP_UNTIL(&f->l, r.n_done);
                Sandboxd__V1__SandboxServiceGetResponse *m =
                        unpack(&sandboxd__v1__sandbox_service_get_response__descriptor, &r);
                const Sandboxd__V1__Dns *dns = m->sandbox->dns;
                assert_int_equal(dns != NULL, i);
                if (dns) {
                        assert_int_equal(dns->n_servers, 2);
                        assert_string_equal(dns->servers[1], "2001:db8::1");
                        assert_int_equal(dns->n_search + dns->n_options, 0);
                }
                free_message(m);
                reply_done(&r);
        }
        rpc_client_close(c);
}

static void of_ones_own(void **state)
{
        static const struct {
                unsigned roles;
                bool all, foreign_env;
        } cases[] = {
                {ROLE_USER, false, false},
                {ROLE_OBSERVER, true, false},
                {ROLE_USER | ROLE_OBSERVER, true, false},
                {ROLE_ADMIN, true, true},
        };
        static char *env[] = {(char *)"A=1", NULL};
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct sandbox *own = add_sandbox(1), *foreign = add_sandbox(2);

        own->rec.owner = getuid();
        foreign->rec.owner = getuid() + 1;
        own->rec.env = foreign->rec.env = env;
        commit_owned("", getuid() + 1);
        commit_owned("", OWNER_UNKNOWN);
        commit_owned("", getuid());
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct told snapshot = {0}, events = {0};
                roles = cases[i].roles;
                assert_int_equal(listed(f, c), cases[i].all ? 2 : 1);
                watch(c, 0, "", true, &snapshot);
                watch(c, 1, "", true, &events);
                LOOP_UNTIL(&f->l, snapshot.n_done && events.n_done);
                assert_int_equal(snapshot.n_sandboxes, cases[i].all ? 2 : 1);
                assert_int_equal(events.first, cases[i].all ? 1 : 3);
                assert_int_equal(events.last, 3);
                assert_int_equal(events.synced_at, 3);
                assert_int_equal(variables(f, c, own->rec.id), roles & ~ROLE_OBSERVER ? 1 : 0);
                assert_int_equal(variables(f, c, foreign->rec.id), cases[i].foreign_env ? 1 : 0);
        }
        rpc_client_close(c);
}

/* What is not for a watcher passes it by, live too, and does not hold up what is. */
static void live_events_of_ones_own(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct told t = {0};

        roles = ROLE_USER;
        watch(c, 0, "", false, &t);
        LOOP_UNTIL(&f->l, t.synced);
        commit_owned("", getuid() + 1);
        commit_owned("", getuid());
        LOOP_UNTIL(&f->l, t.last == 2);
        assert_int_equal(t.first, 2);
        rpc_client_close(c);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(snapshot_then_events),
                TEST(of_one_sandbox),
                TEST(slow_reader_of_a_snapshot),
                TEST(slow_reader_of_events),
                TEST(until_now),
                TEST(wait_until_it_stops),
                TEST(wait_for_what_goes),
                TEST(wait_that_is_given_up),
                TEST(wait_for_no_state),
                TEST(only_so_many),
                TEST(stop),
                TEST(create_passes_on),
                TEST(create_without_its_client),
                TEST(list),
                TEST(operations),
                TEST(keepalive_for_ever_and_for_a_time),
                TEST(delete_tells_where_the_workspace_is),
                TEST(stats),
                TEST(every_field),
                TEST(get_shows_own_dns),
                TEST(of_ones_own),
                TEST(live_events_of_ones_own),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
