/* A store in a directory of its own, and records to put into it. */
#pragma once

#include <errno.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "daemon/store.h"
#include "tests/unit/loop_fixture.h"
#include "tests/unit/temp_dir.h"

#define STORE_MANY 500

struct store_fixture {
        struct loop_fixture l;
        struct temp_dir dir;
        char path[128], witness[128];
        struct store *store;
        struct record loaded[STORE_MANY];
        unsigned n_loaded, load_max; /* 0: all */
        unsigned n_done, n_failed;
        struct err err;
};

static inline struct store_options fixture_options(const struct store_fixture *f)
{
        return (struct store_options){.path = f->path, .witness = *f->witness ? f->witness : NULL};
}

static inline void fixture_open(struct store_fixture *f)
{
        struct store_options options = fixture_options(f);
        struct err e = {0};

        if (store_open(&f->l.loop, &options, &f->store, &e) < 0)
                fail_msg("%s", e.msg);
}

static inline void fixture_init(struct store_fixture *f)
{
        loop_open(&f->l);
        temp_dir_make(&f->dir);
        assert_true(str_format(f->path, sizeof(f->path), "%s/test.db", f->dir.path));
        assert_true(str_format(f->witness, sizeof(f->witness), "%s/witness", f->dir.path));
}

static inline int fixture_setup(void **state)
{
        struct store_fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        fixture_init(f);
        *state = f;
        return 0;
}

static inline void fixture_forget(struct store_fixture *f)
{
        for (unsigned i = 0; i < f->n_loaded; i++)
                record_done(&f->loaded[i]);
        f->n_loaded = 0;
}

/* Closes the store, and lets its handle go. */
static inline void fixture_close(struct store_fixture *f)
{
        if (f->store)
                store_close(TAKE(f->store));
        (void)uv_run(&f->l.loop, UV_RUN_NOWAIT);
}

static inline void fixture_done(struct store_fixture *f)
{
        fixture_close(f);
        fixture_forget(f);
        loop_done(&f->l);
        temp_dir_remove(&f->dir);
}

static inline int fixture_teardown(void **state)
{
        fixture_done(*state);
        free(*state);
        return 0;
}

/* --- records ------------------------------------------------------------------------------- */

/* The id of number i; ids sort by their number. */
static inline const char *fixture_id(unsigned i)
{
        static char id[ID_LEN + 1];

        assert_true(str_format(id, sizeof(id), "01h%023u", i));
        return id;
}

/* The record of number i; the caller frees. */
static inline struct record make_record(unsigned i)
{
        struct record r = {
                .name = str_printf("box-%u", i),
                .runtime = str_printf("runc"),
                .image = str_printf("default"),
                .egress = str_printf("open"),
                .env = strv_copy(NULL, 0),
                .memory = 512 * MiB,
                .desired = SANDBOX_STOPPED,
                .state = SANDBOX_STOPPED,
        };

        memcpy(r.id, fixture_id(i), sizeof(r.id));
        return r;
}

/* One whose every field is something else than nothing. */
static inline struct record make_full_record(unsigned i)
{
        static const char *const env[] = {"A=1",
                                          "EMPTY=",
                                          "QUOTE=\"'`\\",
                                          "LINES=a\nb\r\tc",
                                          "CONTROL=\x01\x1b\x7f",
                                          "UTF8=\xC3\xA9\xF0\x9F\x98\x80\xE2\x80\xA8",
                                          "SQL='); DROP TABLE sandbox; --",
                                          "EQUALS=a=b=c"};
        static const char *const dns[] = {"10.0.0.1", "2001:db8::1", "edns0"};
        struct record r = make_record(i);

        strv_free(r.env);
        r.env = strv_copy(env, ARRAY_SIZE(env));
        r.dns.servers = strv_copy(dns, 2);
        r.dns.search = strv_copy(dns + 1, 1);
        r.dns.options = strv_copy(dns + 2, 1);
        r.network = NETWORK_BRIDGE;
        free(r.egress);
        r.egress = str_printf("10.0.0.0/8,192.0.2.7/32:443/tcp");
        r.rootfs = ROOTFS_OVERLAY;
        r.memory = INT64_MAX;
        r.cpu_millis = 1500;
        r.pids = 1;
        memset(r.request_key, 'k', REQUEST_KEY_MAX);
        memcpy(r.workspace_of, fixture_id(i + 1000), sizeof(r.workspace_of));
        r.owner = UINT32_MAX;
        r.ttl_ms = 60000;
        r.expiry = EXPIRY_DELETE;
        r.expires_at = 1700000060123;
        r.expires_at_boottime = UINT64_MAX;
        r.desired = SANDBOX_PAUSED;
        r.state = SANDBOX_FAILED;
        r.generation = 7 + i;
        memcpy(r.reason, "it's \"gone\"\n", 13);
        r.op = (struct operation){.kind = OPERATION_DELETE,
                                  .step = "a step that is thirty-one long.",
                                  .started_at = 1700000000124,
                                  .deadline = 1700000600124,
                                  .grace_ms = 2500,
                                  .keep_workspace = true};
        r.exit = (struct exit_info){
                .cause = EXIT_OUT_OF_MEMORY, .code = -1, .signal = 9, .at = 1700000000125};
        r.pid = 4194304;
        r.pid_start_time = UINT64_MAX;
        memcpy(r.host_boot_id, "01234567-89ab-cdef-0123-456789abcdef", HOST_BOOT_ID_LEN + 1);
        memcpy(r.boot_id, "0123456789abcdef0123456789abcdef", 33);
        r.created_at = 1700000000123;
        r.started_at = -1;
        return r;
}

static inline bool operation_is_same(const struct operation *a, const struct operation *b)
{
        return a->kind == b->kind && str_eq(a->step, b->step) && a->started_at == b->started_at &&
               a->deadline == b->deadline && a->grace_ms == b->grace_ms &&
               a->keep_workspace == b->keep_workspace;
}

/* NULL is as good as empty. */
static inline bool list_is_same(char *const *a, char *const *b)
{
        for (; a && *a && b && *b; a++, b++) {
                if (!str_eq(*a, *b))
                        return false;
        }
        return (!a || !*a) && (!b || !*b);
}

static inline bool dns_is_same(const struct config_dns *a, const struct config_dns *b)
{
        return list_is_same(a->servers, b->servers) && list_is_same(a->search, b->search) &&
               list_is_same(a->options, b->options);
}

static inline bool record_is_same(const struct record *a, const struct record *b)
{
        return str_eq(a->id, b->id) && str_eq(a->name, b->name) && str_eq(a->runtime, b->runtime) &&
               str_eq(a->image, b->image) && list_is_same(a->env, b->env) &&
               dns_is_same(&a->dns, &b->dns) && a->network == b->network &&
               str_eq(a->egress, b->egress) && a->rootfs == b->rootfs && a->memory == b->memory &&
               a->cpu_millis == b->cpu_millis && a->pids == b->pids &&
               str_eq(a->request_key, b->request_key) && str_eq(a->workspace_of, b->workspace_of) &&
               a->owner == b->owner && a->ttl_ms == b->ttl_ms && a->expiry == b->expiry &&
               a->expires_at == b->expires_at && a->expires_at_boottime == b->expires_at_boottime &&
               a->desired == b->desired && a->state == b->state && a->generation == b->generation &&
               str_eq(a->reason, b->reason) && operation_is_same(&a->op, &b->op) &&
               a->exit.cause == b->exit.cause && a->exit.code == b->exit.code &&
               a->exit.signal == b->exit.signal && a->exit.at == b->exit.at && a->pid == b->pid &&
               a->pid_start_time == b->pid_start_time && str_eq(a->host_boot_id, b->host_boot_id) &&
               str_eq(a->boot_id, b->boot_id) && a->created_at == b->created_at &&
               a->started_at == b->started_at;
}

static inline bool event_is_same(const struct event *a, const struct event *b)
{
        return a->sequence == b->sequence && a->at == b->at && a->kind == b->kind &&
               str_eq(a->sandbox_id, b->sandbox_id) && str_eq(a->sandbox_name, b->sandbox_name) &&
               a->owner == b->owner && a->state == b->state && a->operation == b->operation &&
               str_eq(a->reason, b->reason);
}

static inline struct event make_event(unsigned i)
{
        struct event event = {
                .at = record_now(),
                .kind = EVENT_STATE,
                .owner = 1000 + i,
                .state = SANDBOX_RUNNING,
                .operation = OPERATION_START,
        };

        memcpy(event.sandbox_id, fixture_id(i), sizeof(event.sandbox_id));
        assert_true(str_format(event.sandbox_name, sizeof(event.sandbox_name), "box-%u", i));
        assert_true(str_format(event.reason, sizeof(event.reason), "because of %u", i));
        return event;
}

/* --- writing and loading ------------------------------------------------------------------- */

static inline void fixture_on_done(void *data, const struct err *e)
{
        struct store_fixture *f = data;

        f->n_done++;
        if (e) {
                f->n_failed++;
                f->err = *e;
        }
}

static inline void fixture_put_event(struct store_fixture *f, const struct record *r,
                                     const struct event *event)
{
        struct err e = {0};

        if (store_put(f->store, r, event, fixture_on_done, f, &e) < 0)
                fail_msg("%s", e.msg);
}

static inline void fixture_put(struct store_fixture *f, const struct record *r)
{
        fixture_put_event(f, r, NULL);
}

static inline void fixture_put_number(struct store_fixture *f, unsigned i)
{
        struct record r = make_record(i);

        fixture_put(f, &r); /* copies */
        record_done(&r);
}

/* Until so many writes in all are done, every one well. */
static inline void fixture_wait(struct store_fixture *f, unsigned n)
{
        LOOP_UNTIL(&f->l, f->n_done == n);
        if (f->n_failed)
                fail_msg("%s", f->err.msg);
}

static inline int fixture_on_record(void *data, struct record *r, struct err *e)
{
        struct store_fixture *f = data;

        assert_true(f->n_loaded < STORE_MANY);
        f->loaded[f->n_loaded++] = *r;
        return f->n_loaded == f->load_max ? err_set(e, STATUS_ABORTED, "enough") : 0;
}

/* Loads all there is from the store that is open. */
static inline void fixture_load_open(struct store_fixture *f)
{
        struct err e = {0};

        fixture_forget(f);
        if (store_load(f->store, fixture_on_record, f, &e) < 0)
                fail_msg("%s", e.msg);
}

/* Closes the store, opens it again, and loads all there is. */
static inline void fixture_load(struct store_fixture *f)
{
        if (f->store)
                store_close(TAKE(f->store));
        fixture_open(f);
        fixture_load_open(f);
}

/* By another connection, while the store is closed (or to disturb it). */
static inline void fixture_sql(struct store_fixture *f, const char *text)
{
        sqlite3 *db;
        char *message = NULL;

        assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
        if (sqlite3_exec(db, text, NULL, NULL, &message) != SQLITE_OK)
                fail_msg("%s: %s", text, message);
        assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* The tables as sandboxd 0.1 made them. */
#define STORE_SCHEMA_1                                                                         \
        "CREATE TABLE sandbox (  id TEXT PRIMARY KEY,  name TEXT NOT NULL,  runtime TEXT NOT " \
        "NULL,"                                                                                \
        "  image TEXT NOT NULL,  env TEXT NOT NULL,  memory INTEGER NOT NULL,"                 \
        "  cpu_millis INTEGER NOT NULL,  pids INTEGER NOT NULL,  state TEXT NOT NULL,"         \
        "  reason TEXT NOT NULL,  pid INTEGER NOT NULL,  pid_start_time INTEGER NOT NULL,"     \
        "  boot_id TEXT NOT NULL,  created_at INTEGER NOT NULL,  started_at INTEGER NOT NULL"  \
        ") STRICT;"                                                                            \
        "PRAGMA user_version = 1;"

static inline const char *fixture_file(const struct store_fixture *f, const char *suffix)
{
        static char paths[4][160];
        static unsigned next;
        char *path = paths[next++ % 4];

        assert_true(str_format(path, sizeof(paths[0]), "%s%s", f->path, suffix));
        return path;
}

/* --- files --------------------------------------------------------------------------------- */

struct file_copy {
        char *bytes; /* NULL: there is no such file */
        size_t n;
};

static inline struct file_copy file_read(const char *path)
{
        struct file_copy copy = {0};
        struct err e = {0};

        int r = io_read_file(path, 64 * MiB, &copy.bytes, &copy.n, &e);
        if (r < 0 && r != -ENOENT)
                fail_msg("%s", e.msg);
        return copy;
}

static inline void file_write(const char *path, const struct file_copy *copy)
{
        struct err e = {0};

        if (!copy->bytes)
                (void)unlink(path);
        else if (io_write_in_place(path, copy->bytes, copy->n, 0600, &e) < 0)
                fail_msg("%s", e.msg);
}

/* Frees the copy. */
static inline void file_assert_same(const char *path, struct file_copy *before)
{
        struct file_copy now = file_read(path);

        if (now.n != before->n || (now.n && memcmp(now.bytes, before->bytes, now.n) != 0))
                fail_msg("'%s' was changed (%zu bytes, %zu before)", path, now.n, before->n);
        free(now.bytes);
        free(TAKE(before->bytes));
}
