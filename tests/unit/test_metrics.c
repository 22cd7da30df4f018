/* daemon/metrics.c: the families, their cells, and how they are told. */
#include "daemon/metrics.h"

#include "base/str.h"
#include "tests/unit/rpc_calls.h"

#define RUNTIMES 2

static const struct engine_runtime runtimes[RUNTIMES] = {{.name = "runc"}, {.name = "gvisor-next"}};
static const struct engine engine = {.runtimes = runtimes, .n_runtimes = RUNTIMES};

static void on_end(void *ctx, const struct rpc_call *call, enum status code, const struct err *e)
{
        (void)ctx, (void)e;
        metrics_count_call(call, code);
}

static int setup(void **state)
{
        static const struct rpc_interceptor interceptor = {.on_end = on_end};
        struct rpc_fixture *f;

        assert_int_equal(rpc_fixture_setup(state), 0);
        f = *state;
        rpc_server_intercept(f->server, &interceptor, NULL);
        for (unsigned m = 0; m < METRICS; m++)
                metrics_clear((enum metric)m);
        metrics_open(f->server, &engine);
        return 0;
}

/* --- reading what is told ------------------------------------------------------------------ */

/* The caller frees. */
static char *text_now(void)
{
        struct exposition x = {.r = 0};

        assert_int_equal(metrics_render(&x), 0);
        char *text = strndup((const char *)buf_bytes(&x.text), x.text.len);
        buf_done(&x.text);
        return text;
}

static void assert_told(const char *line)
{
        _cleanup_free_ char *text = text_now();
        _cleanup_free_ char *whole = str_printf("\n%s\n", line);

        if (!strstr(text, whole))
                fail_msg("there is no line: %s", line);
}

static void assert_not_told(const char *start)
{
        _cleanup_free_ char *text = text_now();

        if (strstr(text, start))
                fail_msg("there is: %s", start);
}

static unsigned n_lines(void)
{
        _cleanup_free_ char *text = text_now();
        unsigned n = 0;

        for (const char *p = text; (p = strchr(p, '\n')); p++)
                n++;
        return n;
}

/* --- the families -------------------------------------------------------------------------- */

static bool is_name(const char *name, size_t n)
{
        return n == strspn(name, "abcdefghijklmnopqrstuvwxyz_");
}

/* Every family has a help and a type, and the names that its type and unit ask for. */
static void heads(void **state)
{
        _cleanup_free_ char *text = text_now();
        unsigned n = 0;
        char *rest = NULL;

        (void)state;
        for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
                if (!str_starts(line, "# HELP "))
                        continue;
                char *name = line + strlen("# HELP "), *help = strchr(name, ' ');
                size_t len = (size_t)(help - name);
                assert_true(is_name(name, len));
                assert_true(strlen(help) > 8 && help[strlen(help) - 1] == '.');
                *help = '\0';
                assert_true(str_starts(name, "sandboxd_") || str_starts(name, "process_"));
                char *type = strtok_r(NULL, "\n", &rest);
                assert_true(str_starts(type, "# TYPE "));
                assert_memory_equal(type + strlen("# TYPE "), name, len);
                bool total = len > 6 && str_eq(name + len - 6, "_total");
                assert_int_equal(str_eq(type + strlen("# TYPE ") + len, " counter"), total);
                n++;
        }
        assert_int_equal(n, METRICS);
}

/* The last combination of each has a cell of its own. */
static void cells(void **state)
{
        (void)state;
        metrics_add(METRIC_LIMIT_HITS, LIMIT_STORE_RESERVE, 3);
        metrics_add(METRIC_OPERATIONS,
                    metrics_pair(METRIC_OPERATIONS, OPERATION_KINDS - 1, RESULTS - 1), 4);
        metrics_add(METRIC_SANDBOX_EXITS, EXIT_CAUSES - 2, 5);
        metrics_set(METRIC_LIMIT_USAGE, METRIC_USAGES - 1, 250000);
        metrics_set(METRIC_SANDBOXES, metrics_pair(METRIC_SANDBOXES, SANDBOX_STATES - 1, RUNTIMES),
                    6);
        assert_told("sandboxd_limit_hits_total{limit=\"store_reserve\"} 3");
        assert_told("sandboxd_operations_total{kind=\"undo_create\",result=\"failed\"} 4");
        assert_told("sandboxd_sandbox_exits_total{cause=\"unknown\"} 5");
        assert_told("sandboxd_limit_usage_ratio{limit=\"descriptors\"} 0.25");
        assert_told("sandboxd_sandboxes{state=\"paused\",runtime=\"gvisor-next\"} 6");
        metrics_clear(METRIC_LIMIT_HITS);
        assert_told("sandboxd_limit_hits_total{limit=\"store_reserve\"} 0");
        assert_int_equal(metrics_get(METRIC_SANDBOX_EXITS, EXIT_CAUSES - 2), 5);
}

static void runtimes_by_name(void **state)
{
        (void)state;
        assert_int_equal(metrics_runtime("runc"), 1);
        assert_int_equal(metrics_runtime("gvisor-next"), 2);
        assert_int_equal(metrics_runtime("removed"), 0);
        metrics_set(METRIC_SANDBOXES, metrics_pair(METRIC_SANDBOXES, SANDBOX_RUNNING, 0), 1);
        assert_told("sandboxd_sandboxes{state=\"running\",runtime=\"(not configured)\"} 1");
        assert_not_told("sandboxd_sandboxes{state=\"running\",runtime=\"removed\"}");
}

/* --- histograms ---------------------------------------------------------------------------- */

static void a_histogram(void **state)
{
        (void)state;
        metrics_observe(METRIC_LOOP_LAG, 0, 0);
        metrics_observe(METRIC_LOOP_LAG, 0, NSEC_PER_MSEC);     /* a bound belongs to its bucket */
        metrics_observe(METRIC_LOOP_LAG, 0, NSEC_PER_MSEC + 1); /* the next */
        metrics_observe(METRIC_LOOP_LAG, 0, 5 * NSEC_PER_SEC);
        metrics_observe(METRIC_LOOP_LAG, 0, 6 * NSEC_PER_SEC); /* beyond all */
        assert_told("sandboxd_loop_lag_seconds_bucket{le=\"0.001\"} 2");
        assert_told("sandboxd_loop_lag_seconds_bucket{le=\"0.005\"} 3");
        assert_told("sandboxd_loop_lag_seconds_bucket{le=\"1\"} 3");
        assert_told("sandboxd_loop_lag_seconds_bucket{le=\"5\"} 4");
        assert_told("sandboxd_loop_lag_seconds_bucket{le=\"+Inf\"} 5");
        assert_told("sandboxd_loop_lag_seconds_sum 11.002000001");
        assert_told("sandboxd_loop_lag_seconds_count 5");
}

/* One of several: the others are not touched. */
static void histograms_by_label(void **state)
{
        (void)state;
        metrics_observe(METRIC_STORE_DURATION, STORE_READS, 300000);
        assert_told("sandboxd_store_duration_seconds_bucket{kind=\"read\",le=\"0.0005\"} 1");
        assert_told("sandboxd_store_duration_seconds_sum{kind=\"read\"} 0.0003");
        assert_told("sandboxd_store_duration_seconds_count{kind=\"read\"} 1");
        assert_told("sandboxd_store_duration_seconds_count{kind=\"write\"} 0");
        assert_told("sandboxd_store_duration_seconds_sum{kind=\"write\"} 0");
}

/* --- operations ---------------------------------------------------------------------------- */

static void operations(void **state)
{
        (void)state;
        metrics_count_operation(OPERATION_CREATE, false, STATUS_OK, 30 * NSEC_PER_MSEC);
        metrics_count_operation(OPERATION_CREATE, false, STATUS_ABORTED, NSEC_PER_MSEC);
        metrics_count_operation(OPERATION_CREATE, false, STATUS_INTERNAL, NSEC_PER_SEC);
        metrics_count_operation(OPERATION_CREATE, true, STATUS_OK, NSEC_PER_SEC);
        metrics_count_operation(OPERATION_CLEAN_UP, false, STATUS_OK, 0);
        metrics_count_operation(OPERATION_NONE, false, STATUS_OK, 0); /* is none */
        assert_told("sandboxd_operations_total{kind=\"create\",result=\"ok\"} 1");
        assert_told("sandboxd_operations_total{kind=\"create\",result=\"refused\"} 1");
        assert_told("sandboxd_operations_total{kind=\"create\",result=\"failed\"} 1");
        assert_told("sandboxd_operations_total{kind=\"undo_create\",result=\"ok\"} 1");
        assert_told("sandboxd_operations_total{kind=\"clean_up\",result=\"ok\"} 1");
        assert_told("sandboxd_operation_duration_seconds_count{kind=\"create\"} 3");
        assert_told("sandboxd_operation_duration_seconds_sum{kind=\"create\"} 1.031");
        assert_told("sandboxd_operations_total{kind=\"delete\",result=\"ok\"} 0");
}

/* --- calls --------------------------------------------------------------------------------- */

#define RPCS(method, code)                                                                       \
        "sandboxd_rpcs_total{service=\"test.v1.TestService\",method=\"" method "\",code=\"" code \
        "\"} "

static void one_call(struct rpc_fixture *f, struct rpc_client *c, const char *service,
                     const char *name)
{
        const struct rpc_service s = {.name = service};
        const struct rpc_method m = {.name = name, STATUS_TYPES};
        const struct rpc_request request = {.service = &s, .method = &m, .message = ""};
        struct reply r = {0};

        assert_int_equal(rpc_client_call(c, &request, &reply_ops, &r, NULL, NULL), 0);
        LOOP_UNTIL(&f->l, r.n_done);
        reply_done(&r);
}

/* Unknown ones are one series, whatever they are called. */
static void calls(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        unsigned before = n_lines();

        assert_told(RPCS("Echo", "OK") "0");
        assert_not_told(RPCS("Refuse", "NOT_FOUND"));
        for (int i = 0; i < 3; i++)
                one_call(f, c, test_service.name, "Echo");
        assert_int_equal(n_lines(), before);
        one_call(f, c, test_service.name, "Refuse");
        one_call(f, c, test_service.name, "NotServed");
        one_call(f, c, test_service.name, "Nonsense");
        one_call(f, c, "nobody.v1.Knows", "Echo");
        one_call(f, c, "\"evil\"\n", "Echo");
        assert_told(RPCS("Echo", "OK") "3");
        assert_told(RPCS("Refuse", "NOT_FOUND") "1");
        assert_told("sandboxd_rpcs_total{service=\"unknown\",method=\"unknown\","
                    "code=\"UNIMPLEMENTED\"} 4");
        assert_int_equal(n_lines(), before + 2);
        rpc_client_close(c);
}

static void cancelled_calls(void **state)
{
        struct rpc_fixture *f = *state;
        struct rpc_client *c = client_new(f, NULL);
        struct reply r = {0};

        call(c, HANG, "", 0, &r);
        LOOP_UNTIL(&f->l, f->n_hung);
        rpc_client_close(c);
        LOOP_UNTIL(&f->l, f->cancels);
        assert_told(RPCS("Hang", "CANCELLED") "1");
        assert_told(RPCS("Hang", "OK") "0");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, rpc_fixture_teardown)
        const struct CMUnitTest tests[] = {
                TEST(heads),
                TEST(cells),
                TEST(runtimes_by_name),
                TEST(a_histogram),
                TEST(histograms_by_label),
                TEST(operations),
                TEST(calls),
                TEST(cancelled_calls),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
