/* daemon/doctor.c and doctor_trial.c over sandboxes and a store of the test's own: what is under
 * way when the time is over, or nobody wants to know any more. */
#include "daemon/doctor.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/str.h"
#include "base/util.h"
#include "daemon/sandbox.h"
#include "tests/unit/loop_fixture.h"
#include "tests/unit/temp_dir.h"

#define FINDINGS_MAX 64

/* --- what it works with -------------------------------------------------------------------- */

struct sandbox {
        struct record rec;
};

/* What was asked for and not answered yet. */
static struct {
        store_done checked;
        sandbox_done created, deleted;
        void *checked_data, *created_data, *deleted_data;
        bool refuse_create, there; /* there: a sandbox that can be found */
        char name[NAME_MAX_LEN + 1];
        uint32_t owner;
        uint64_t ttl_ms;
        enum expiry_action expiry;
        unsigned n_deleted;
} world;
static struct sandbox box;

const struct record *sandbox_record(const struct sandbox *s)
{
        return &s->rec;
}

int sandbox_create(struct registry *r, const struct sandbox_params *params, sandbox_done done,
                   void *data, struct err *e)
{
        (void)r;
        if (world.refuse_create)
                return err_set(e, STATUS_RESOURCE_EXHAUSTED, "there are too many");
        assert_true(str_format(world.name, sizeof(world.name), "%s", params->name));
        assert_true(name_is_valid(world.name));
        world.owner = params->owner;
        world.ttl_ms = params->ttl_ms;
        world.expiry = params->expiry;
        world.created = done;
        world.created_data = data;
        return 0;
}

int sandbox_delete(struct sandbox *s, bool keep_workspace, sandbox_done done, void *data,
                   struct err *e)
{
        (void)e;
        assert_ptr_equal(s, &box);
        assert_false(keep_workspace);
        world.n_deleted++;
        world.deleted = done;
        world.deleted_data = data;
        return 0;
}

struct runtimed_client *sandbox_runtimed(struct sandbox *s, struct err *e)
{
        (void)s;
        (void)err_set(e, STATUS_UNAVAILABLE, "it does not answer");
        return NULL;
}

int registry_resolve(struct registry *r, const char *ref, size_t n, struct sandbox **ret,
                     struct err *e)
{
        (void)r;
        if (!world.there || !str_is(world.name, ref, n))
                return err_set(e, STATUS_NOT_FOUND, "no sandbox");
        *ret = &box;
        return 0;
}

int store_check(struct store *s, store_done done, void *data, struct err *e)
{
        (void)s, (void)e;
        world.checked = done;
        world.checked_data = data;
        return 0;
}

bool store_is_short(const struct store *s)
{
        (void)s;
        return false;
}

const char *store_instance(const struct store *s)
{
        (void)s;
        return "";
}

static char *read_resolv_conf(struct engine *engine, const char *id)
{
        (void)engine, (void)id;
        return strdup("nameserver 1.1.1.1\n");
}

static const struct engine_ops engine_ops = {.read_resolv_conf = read_resolv_conf};

/* --- fixture ------------------------------------------------------------------------------- */

struct fixture {
        struct loop_fixture l;
        struct temp_dir dir;
        char program[128];
        struct config config;
        struct engine_runtime runtime;
        struct engine engine;
        struct registry registry;
        struct doctor_list list;
        struct doctor *doctor;
        struct finding findings[FINDINGS_MAX];
        unsigned n, done;
};

static void write_program(struct fixture *f, const char *script)
{
        assert_int_equal(io_write_atomic(f->program, script, strlen(script), 0755, NULL), 0);
}

static int setup(void **state)
{
        static char runc[] = "runc", image[] = "busybox", none[] = "";
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        memset(&world, 0, sizeof(world));
        loop_open(&f->l);
        temp_dir_make(&f->dir);
        assert_true(str_format(f->program, sizeof(f->program), "%s/runc", f->dir.path));
        write_program(f, "#!/bin/sh\necho runc version 9.9.9\n");
        f->config.runtime = runc;
        f->config.data_dir = f->config.state_dir = f->dir.path;
        f->config.defaults.image = image;
        f->runtime = (struct engine_runtime){
                .name = runc,
                .type = runc,
                .path = f->program,
                .version = none,
                .problem = none,
                .platform = "",
                .network = "",
                .no_socket_hint = "",
        };
        f->engine = (struct engine){.ops = &engine_ops, .runtimes = &f->runtime, .n_runtimes = 1};
        f->registry = (struct registry){
                .loop = &f->l.loop,
                .config = &f->config,
                .engine = &f->engine,
                .runtimed = "/bin/true",
                .socket = f->dir.path,
        };
        assert_int_equal(proc_new(&f->l.loop, &f->registry.proc, NULL), 0);
        LIST_INIT(&f->list);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        proc_close(f->registry.proc);
        loop_done(&f->l);
        doctor_list_done(&f->list);
        temp_dir_remove(&f->dir);
        free(f);
        return 0;
}

static void on_finding(void *data, const struct finding *finding)
{
        struct fixture *f = data;

        assert_int_equal(f->done, 0);
        assert_true(f->n < FINDINGS_MAX);
        f->findings[f->n++] = *finding;
}

static void on_done(void *data)
{
        ((struct fixture *)data)->done++;
}

static void begin(struct fixture *f, unsigned timeout_ms)
{
        static const struct doctor_ops ops = {.on_finding = on_finding, .on_done = on_done};
        const struct doctor_options options = {.timeout_ms = timeout_ms, .owner = 17};

        assert_int_equal(doctor_new(&f->registry, &options, &ops, f, &f->list, &f->doctor, NULL),
                         0);
        assert_int_equal(f->n + f->done, 0); /* not before the return */
}

/* NULL: it has not come. */
static const struct finding *find(const struct fixture *f, const char *id)
{
        for (unsigned i = 0; i < f->n; i++)
                if (str_eq(f->findings[i].id, id))
                        return &f->findings[i];
        return NULL;
}

static void assert_found(const struct fixture *f, const char *id, enum finding_status status,
                         const char *words)
{
        const struct finding *finding = find(f, id);

        if (!finding || finding->status != status || !strstr(finding->found, words))
                fail_msg("%s: %d '%s'", id, finding ? (int)finding->status : -1,
                         finding ? finding->found : "");
}

static void answer_store(void)
{
        store_done done = TAKE(world.checked);

        done(world.checked_data, NULL);
}

static void answer_create(struct sandbox *s, const struct err *e)
{
        sandbox_done done = TAKE(world.created);

        done(world.created_data, s, e);
}

static void answer_delete(const struct err *e)
{
        sandbox_done done = TAKE(world.deleted);

        world.there = false;
        done(world.deleted_data, NULL, e);
}

/* Up to the sandbox that is being made. */
static void reach_create(struct fixture *f)
{
        begin(f, 15000);
        LOOP_UNTIL(&f->l, world.checked);
        answer_store();
        LOOP_UNTIL(&f->l, world.created);
        world.there = true;
}

/* Nothing of it is called back, and it goes. */
static void assert_silent(struct fixture *f)
{
        unsigned n = f->n;

        LOOP_UNTIL(&f->l, LIST_EMPTY(&f->list));
        assert_int_equal(f->n, n);
        assert_int_equal(f->done, 0);
}

/* --- to its end ---------------------------------------------------------------------------- */

static void all_of_it(void **state)
{
        struct fixture *f = *state;

        reach_create(f);
        assert_true(str_starts(world.name, "doctor-"));
        assert_int_equal(world.owner, 17);
        assert_int_equal(world.ttl_ms, 120000);
        assert_int_equal(world.expiry, EXPIRY_DELETE);
        answer_create(&box, NULL);
        assert_found(f, "runtime.runc.sandbox", FINDING_OK, "up after");
        assert_found(f, "runtime.runc.socket", FINDING_FAIL, "it does not answer");
        LOOP_UNTIL(&f->l, world.deleted);
        answer_delete(NULL);
        LOOP_UNTIL(&f->l, f->done);
        assert_found(f, "runtime.runc.removal", FINDING_OK, "nothing was left");
        assert_found(f, "dns.servers", FINDING_OK, "1.1.1.1; not asked");
        assert_string_equal(f->findings[0].id, "kernel");
        assert_string_equal(f->findings[f->n - 1].id, "dns.servers");
        LOOP_UNTIL(&f->l, LIST_EMPTY(&f->list));
        assert_int_equal(f->done, 1);
}

static void creates_that_fail(void **state)
{
        struct fixture *f = *state;
        struct err e;

        (void)err_set(&e, STATUS_INTERNAL, "no such kernel");
        reach_create(f);
        answer_create(NULL, &e);
        LOOP_UNTIL(&f->l, f->done);
        assert_found(f, "runtime.runc.sandbox", FINDING_FAIL, "no such kernel");
        assert_null(find(f, "runtime.runc.removal"));
        assert_found(f, "dns.servers", FINDING_WARN, "not known");
        LOOP_UNTIL(&f->l, LIST_EMPTY(&f->list));

        f->n = f->done = 0;
        world.refuse_create = true;
        begin(f, 15000);
        LOOP_UNTIL(&f->l, world.checked);
        answer_store();
        LOOP_UNTIL(&f->l, f->done);
        assert_found(f, "runtime.runc.sandbox", FINDING_FAIL, "there are too many");
}

static void removals_that_fail(void **state)
{
        struct fixture *f = *state;
        struct err e;

        (void)err_set(&e, STATUS_INTERNAL, "it clings");
        reach_create(f);
        answer_create(&box, NULL);
        LOOP_UNTIL(&f->l, world.deleted);
        answer_delete(&e);
        LOOP_UNTIL(&f->l, f->done);
        assert_found(f, "runtime.runc.removal", FINDING_FAIL, "it clings");
        LOOP_UNTIL(&f->l, LIST_EMPTY(&f->list));

        f->n = f->done = 0;
        reach_create(f);
        world.there = false; /* somebody else has removed it */
        answer_create(&box, NULL);
        LOOP_UNTIL(&f->l, f->done);
        assert_found(f, "runtime.runc.removal", FINDING_FAIL, "went away by itself");
}

static void versions(void **state)
{
        static const struct {
                const char *script, *words;
                enum finding_status status;
        } cases[] = {
                {"echo runc version 1.2.7", "CVE-2025-31133", FINDING_WARN},
                {"echo '}{ garbage'", "does not tell its version", FINDING_WARN},
                {"echo no licence; exit 3", "no licence", FINDING_FAIL},
        };
        struct fixture *f = *state;
        char script[128];

        world.refuse_create = true;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                assert_true(str_format(script, sizeof(script), "#!/bin/sh\n%s\n", cases[i].script));
                write_program(f, script);
                f->n = f->done = 0;
                begin(f, 15000);
                LOOP_UNTIL(&f->l, world.checked);
                answer_store();
                LOOP_UNTIL(&f->l, f->done);
                assert_found(f, "runtime.runc.version", cases[i].status, cases[i].words);
                assert_int_equal(find(f, "runtime.runc.sandbox") != NULL,
                                 cases[i].status != FINDING_FAIL);
                LOOP_UNTIL(&f->l, LIST_EMPTY(&f->list));
        }
}

static void another_version_than_at_the_start(void **state)
{
        struct fixture *f = *state;
        static char old[] = "9.9.8";

        f->runtime.version = old;
        world.refuse_create = true;
        begin(f, 15000);
        LOOP_UNTIL(&f->l, world.checked);
        answer_store();
        LOOP_UNTIL(&f->l, f->done);
        assert_found(f, "runtime.runc.version", FINDING_WARN, "it was 9.9.8 when the daemon");
}

/* --- before its end ------------------------------------------------------------------------ */

static void time_is_over(void **state)
{
        struct fixture *f = *state;

        begin(f, 300);
        LOOP_UNTIL(&f->l, f->done);
        assert_found(f, "doctor", FINDING_FAIL, "store hung");
        loop_run_for(&f->l, 20);
        assert_int_equal(f->done, 1);
        assert_false(LIST_EMPTY(&f->list)); /* the answer is owed */
        answer_store();
        LOOP_UNTIL(&f->l, LIST_EMPTY(&f->list));
        assert_int_equal(f->done, 1);
}

static void time_is_over_in_a_trial(void **state)
{
        struct fixture *f = *state;

        begin(f, 1000);
        LOOP_UNTIL(&f->l, world.checked);
        answer_store();
        LOOP_UNTIL(&f->l, world.created);
        world.there = true;
        LOOP_UNTIL(&f->l, f->done);
        assert_found(f, "doctor", FINDING_FAIL, "runtime.runc.sandbox hung");
        assert_int_equal(world.n_deleted, 1);
        answer_create(&box, NULL); /* after all */
        assert_int_equal(world.n_deleted, 2);
        LOOP_UNTIL(&f->l, LIST_EMPTY(&f->list));
}

static void abandoned_at_once(void **state)
{
        struct fixture *f = *state;

        begin(f, 15000);
        doctor_abandon(f->doctor);
        assert_silent(f);
        begin(f, 15000);
        LOOP_UNTIL(&f->l, f->n == 3); /* in a check */
        doctor_abandon(f->doctor);
        assert_silent(f);
}

static void abandoned_at_the_store(void **state)
{
        struct fixture *f = *state;

        begin(f, 15000);
        LOOP_UNTIL(&f->l, world.checked);
        doctor_abandon(f->doctor);
        loop_run_for(&f->l, 20);
        assert_false(LIST_EMPTY(&f->list));
        answer_store();
        assert_silent(f);
        f->n = 0;
        begin(f, 15000);
        LOOP_UNTIL(&f->l, world.checked);
        doctor_abandon(f->doctor); /* its answer never comes: see teardown */
}

static void abandoned_at_a_program(void **state)
{
        struct fixture *f = *state;

        write_program(f, "#!/bin/sh\nsleep 0.2\n");
        begin(f, 15000);
        LOOP_UNTIL(&f->l, world.checked);
        answer_store();
        LOOP_UNTIL(&f->l, find(f, "runtime.runc.program"));
        doctor_abandon(f->doctor);
        assert_silent(f);
}

static void abandoned_while_a_sandbox_is_made(void **state)
{
        struct fixture *f = *state;
        struct err e;

        (void)err_set(&e, STATUS_ABORTED, "it was deleted");
        reach_create(f);
        doctor_abandon(f->doctor);
        assert_int_equal(world.n_deleted, 1);
        assert_null(world.deleted); /* nobody waits for it */
        answer_create(NULL, &e);
        assert_silent(f);
}

static void abandoned_while_a_sandbox_goes(void **state)
{
        struct fixture *f = *state;

        reach_create(f);
        answer_create(&box, NULL);
        LOOP_UNTIL(&f->l, world.deleted);
        sandbox_done deleted = world.deleted;
        void *data = world.deleted_data;
        doctor_abandon(f->doctor);
        deleted(data, NULL, NULL);
        assert_silent(f);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(all_of_it),
                TEST(creates_that_fail),
                TEST(removals_that_fail),
                TEST(versions),
                TEST(another_version_than_at_the_start),
                TEST(time_is_over),
                TEST(time_is_over_in_a_trial),
                TEST(abandoned_at_once),
                TEST(abandoned_at_the_store),
                TEST(abandoned_at_a_program),
                TEST(abandoned_while_a_sandbox_is_made),
                TEST(abandoned_while_a_sandbox_goes),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
