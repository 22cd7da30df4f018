/* The engine on a Docker that says what the test tells it to. What a real one does with it all is
 * for tests/e2e/test_docker.py. */
#include "tests/unit/engine_docker_fixture.h"

/* --- the way to it ------------------------------------------------------------------------- */

static void what_docker_says_of_itself_is_known(void **state)
{
        struct fixture *f = *state;

        assert_non_null(strstr(f->engine->about, "Docker Engine 24.0"));
        assert_non_null(strstr(f->engine->about, "live-restore is on"));
        assert_string_equal(f->engine->problem, "");
        assert_string_equal(f->runc->problem, "");
        assert_true(docker_peer_heard(&f->peer, "GET /version"));
        assert_true(docker_peer_heard(&f->peer, "GET /v1.43/info"));
        assert_true(docker_peer_heard(&f->peer, "GET /v1.43/events?since="));
        assert_non_null(strstr(f->runsc->problem, "knows no runtime 'runsc'"));
        assert_non_null(strstr(f->runsc->problem,
                               "{\"runtimes\": {\"runsc\": {\"path\": \"/opt/runsc\", "
                               "\"runtimeArgs\": [\"--host-uds=create\"]}}}"));
        assert_non_null(strstr(f->runsc->problem, "systemctl reload docker"));
        assert_false(f->runsc->problem_passes);
}

static void an_engine_that_is_too_old_or_talks_nonsense_is_told_of(void **state)
{
        static const struct {
                const char *version, *words;
        } cases[] = {
                {"{\"ApiVersion\":\"1.40\"}", "speaks version 1.40 of its API; 1.41 or newer"},
                {"{\"ApiVersion\":\"1.99\",\"MinAPIVersion\":\"1.60\"}", "version 1.99"},
                {"{}", "speaks version none"},
                {"[]", "no JSON object"},
                {"garbage", "no JSON object"},
        };
        struct fixture *f = *state;

        docker_peer_listen(&f->peer, &f->l.loop, f->socket);
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                answer(f, "GET /version", 200, cases[i].version);
                open_engine(f);
                if (!strstr(f->engine->problem, cases[i].words))
                        fail_msg("%s", f->engine->problem);
                assert_string_equal(f->runc->problem, f->engine->problem);
                assert_true(f->runc->problem_passes);
                struct engine *engine = TAKE(f->engine);
                engine->ops->close(engine);
        }
}

static void podman_has_one_runtime_whatever_is_asked_for(void **state)
{
        struct fixture *f = *state;

        answer(f, "GET /version", 200,
               "{\"ApiVersion\":\"1.43\",\"Components\":[{\"Name\":\"Podman Engine\"}]}");
        answer(f, "GET /info", 200,
               "{\"ServerVersion\":\"4.3.1\",\"DefaultRuntime\":\"runc\",\"Runtimes\":{\"runc\":"
               "{\"path\":\"runc\"},\"runsc\":{\"path\":\"/opt/runsc\"}}}");
        docker_peer_listen(&f->peer, &f->l.loop, f->socket);
        open_engine(f);
        assert_non_null(strstr(f->engine->about, "Podman 4.3.1 at "));
        assert_string_equal(f->runc->problem, "");
        assert_non_null(strstr(f->runsc->problem, "Podman runs all containers of its socket with "
                                                  "'runc', whatever they ask for"));
        assert_non_null(
                strstr(f->runsc->problem, "--runtime=runsc --runtime-flag=host-uds=create"));
        assert_false(f->runsc->problem_passes);
        assert_int_equal(f->engine->ops->list(f->engine, f->runc, on_list, f, NULL), 0);
        WAIT(f); /* long enough for a trial to begin */
        assert_false(docker_peer_heard(&f->peer, "GET /v1.43/images/sandboxd/trial:1/json"));
}

static void one_that_is_away_is_found_when_it_comes(void **state)
{
        struct fixture *f = *state;

        open_engine(f);
        assert_non_null(strstr(f->engine->problem, f->socket));
        assert_true(f->runc->problem_passes);
        docker_peer_listen(&f->peer, &f->l.loop, f->socket);
        LOOP_UNTIL(&f->l, f->n_back > 0);
        assert_string_equal(f->engine->problem, "");
        assert_string_equal(f->runc->problem, "");
        assert_false(f->runc->problem_passes);
}

static void events_that_end_are_heard_again_from_where_they_ended(void **state)
{
        struct fixture *f = *state;

        docker_peer_say(&f->peer, "{\"Type\":\"container\",\"Action\":\"create\",\"timeNano\":"
                                  "1700000000500000000}\nhalf a line");
        loop_run_for(&f->l, 50);
        docker_peer_hang_up(&f->peer);
        LOOP_UNTIL(&f->l, f->runc->problem[0]);
        assert_non_null(strstr(f->runc->problem, f->socket));
        LOOP_UNTIL(&f->l, f->n_back > 0);
        assert_string_equal(f->runc->problem, "");
        assert_false(docker_peer_heard(&f->peer, "GET /v1.43/events?since=1699999998.5"));
        docker_peer_say(&f->peer, "{\"timeNano\":9000000000500000000}\n");
        loop_run_for(&f->l, 50);
        docker_peer_hang_up(&f->peer);
        LOOP_UNTIL(&f->l, f->n_back > 1);
        assert_true(docker_peer_heard(&f->peer, "GET /v1.43/events?since=8999999998.500000000"));
}

static void an_engine_that_hangs_holds_nobody_for_ever(void **state)
{
        struct fixture *f = *state;

        answer(f, "GET /info", PEER_NEVER, "");
        docker_peer_listen(&f->peer, &f->l.loop, f->socket);
        open_engine(f);
        assert_non_null(strstr(f->engine->problem, "does not answer in time: GET /info"));
        assert_true(f->runc->problem_passes);
}

/* --- its events ---------------------------------------------------------------------------- */

static size_t survey(struct fixture *f, char what[128])
{
        _cleanup_free_ struct engine_remains *remains = NULL;
        size_t n;

        assert_int_equal(f->engine->ops->survey(f->engine, &remains, &n, NULL), 0);
        (void)str_format(what, 128, "%s", n ? remains[0].what : "");
        return n;
}

static void containers_of_ours_are_known_by_list_and_events(void **state)
{
        struct fixture *f = *state;
        char what[128];

        assert_int_equal(survey(f, what), 0);
        docker_peer_say(&f->peer, EVENT("create"));
        loop_run_for(&f->l, 50);
        assert_int_equal(survey(f, what), 1);
        assert_string_equal(what, "container");
        assert_int_equal(io_mkdir_all(temp_dir_file(&f->dir, "state/bundles/" ID), 0700, NULL), 0);
        assert_int_equal(survey(f, what), 1);
        assert_string_equal(what, "container, bundle");
        docker_peer_say(&f->peer, EVENT("destroy"));
        loop_run_for(&f->l, 50);
        assert_int_equal(survey(f, what), 1);
        assert_string_equal(what, "bundle");

        answer(f, "GET /containers/json", 200,
               "[{\"Id\":\"x\",\"Labels\":{\"sandboxd.id\":\"" ID "\"},\"State\":\"paused\"},"
               "{\"Labels\":{\"sandboxd.id\":\"../etc\"}}, 7]");
        docker_peer_hang_up(&f->peer);
        LOOP_UNTIL(&f->l, f->n_back > 0);
        assert_string_equal(f->paused_id, ID);
        assert_true(f->paused);
        assert_int_equal(survey(f, what), 1);
        assert_string_equal(what, "container, bundle");
}

static void a_container_of_no_sandbox_goes_at_once(void **state)
{
        struct fixture *f = *state;
        char what[128];

        f->forgets = true;
        docker_peer_say(&f->peer, EVENT("create"));
        LOOP_UNTIL(&f->l, docker_peer_heard(&f->peer, "DELETE /v1.43" NAME "?force=1&v=1"));
        LOOP_UNTIL(&f->l, survey(f, what) == 0);
}

/* The teardown demands that nothing of it is left, at whichever step it was. */
static void such_a_removal_is_forgotten_when_the_daemon_ends(void **state)
{
        struct fixture *f = *state;

        f->forgets = true;
        answer(f, "DELETE " NAME, PEER_NEVER, "");
        docker_peer_say(&f->peer, EVENT("create"));
        LOOP_UNTIL(&f->l, docker_peer_heard(&f->peer, "DELETE "));
}

static void nor_does_one_that_is_tried_again_outlive_it(void **state)
{
        struct fixture *f = *state;

        f->forgets = true;
        answer(f, "DELETE " NAME, 500, "{}");
        docker_peer_say(&f->peer, EVENT("create"));
        LOOP_UNTIL(&f->l, docker_peer_count(&f->peer, "DELETE ") == 2);
        loop_run_for(&f->l, 20); /* now a timer waits */
        f->engine->ops->close(f->engine);
        f->engine = NULL;
        loop_run_for(&f->l, 200);
}

static void an_image_cannot_make_helpers_of_sandboxes(void **state)
{
        struct fixture *f = *state;

        answer(f, "GET /containers/json", 200,
               "[{\"Id\":\"x\",\"Labels\":{\"sandboxd.id\":\"" ID
               "\",\"sandboxd.helper\":\"false\"}}]");
        docker_peer_listen(&f->peer, &f->l.loop, f->socket);
        open_engine(f);
        loop_run_for(&f->l, 50);
        assert_false(docker_peer_heard(&f->peer, "DELETE "));
}

static void helpers_of_an_earlier_daemon_go(void **state)
{
        struct fixture *f = *state;

        answer(f, "GET /containers/json", 200,
               "[{\"Id\":\"x\",\"Labels\":{\"sandboxd.id\":\"" ID
               "\",\"sandboxd.helper\":\"true\"}}]");
        docker_peer_listen(&f->peer, &f->l.loop, f->socket);
        open_engine(f);
        LOOP_UNTIL(&f->l, docker_peer_heard(&f->peer, "DELETE /v1.43" NAME "?force=1&v=1"));
        answer(f, "GET /containers/json", 200, "[]");
        loop_run_for(&f->l, 50);
}

static void events_of_others_and_garbage_do_nothing(void **state)
{
        struct fixture *f = *state;
        char what[128];

        docker_peer_say(&f->peer, "{\"Type\":\"container\",\"Action\":\"create\",\"Actor\":{"
                                  "\"Attributes\":{\"sandboxd.id\":\"" ID
                                  "\",\"sandboxd.instance\":\"01hzz0000000000000000000c3\"}}}\n"
                                  "not JSON\n[]\n\n{\"Actor\":7,\"Type\":[]}\n");
        loop_run_for(&f->l, 50);
        assert_int_equal(survey(f, what), 0);
        assert_string_equal(f->engine->problem, "");
}

static void a_pause_by_somebody_else_is_told_as_it_is_now(void **state)
{
        struct fixture *f = *state;

        answer(f, "GET " NAME "/json", 200, "{\"State\":{\"Paused\":true,\"Running\":true}}");
        docker_peer_say(&f->peer, EVENT("pause"));
        LOOP_UNTIL(&f->l, f->paused_id[0]);
        assert_string_equal(f->paused_id, ID);
        assert_true(f->paused);
        answer(f, "GET " NAME "/json", 200, "{\"State\":{\"Paused\":false,\"Running\":true}}");
        docker_peer_say(&f->peer, EVENT("pause")); /* which was undone meanwhile */
        LOOP_UNTIL(&f->l, !f->paused);
}

static void one_that_is_read_while_docker_is_asked_is_asked_for_again(void **state)
{
        struct fixture *f = *state;

        answer(f, "GET /events", PEER_FOR_EVER, "{\"Type\":\"daemon\",\"Action\":\"reload\"}\n");
        docker_peer_listen(&f->peer, &f->l.loop, f->socket);
        open_engine(f);
        LOOP_UNTIL(&f->l, docker_peer_count(&f->peer, "GET /v1.43/info") == 2);
}

static void another_daemon_json_is_read(void **state)
{
        struct fixture *f = *state;

        answer(f, "GET /info", 200,
               "{\"Runtimes\":{\"runc\":{\"path\":\"runc\"},\"runsc\":{\"path\":\"/new/runsc\"}}}");
        docker_peer_say(&f->peer, "{\"Type\":\"daemon\",\"Action\":\"reload\"}\n");
        LOOP_UNTIL(&f->l, docker_peer_heard(&f->peer, "POST /v1.43/images/create?fromSrc=-"));
        LOOP_UNTIL(&f->l, f->runsc->problem[0] == '\0');
}

/* --- containers ---------------------------------------------------------------------------- */

static void lay_down(struct fixture *f, bool bridge)
{
        static const char json[] = "{\"config\":{\"Volumes\":{\"/data/\":{}}}}";
        static const struct image_config image = {.workdir = (char *)"", .uid = 1, .gid = 2};
        const char *rootfs = temp_dir_file(&f->dir, "data/docker/" IMAGE "/rootfs");
        const struct engine_spec spec = {
                .id = ID,
                .runtime = "runc",
                .hostname = "box",
                .rootfs = rootfs,
                .workspace = "/w",
                .runtimed = "/runtimed",
                .resolv_conf = "nameserver 192.0.2.1\n",
                .image = &image,
                .network = {.bridge = bridge},
                .memory = 16 * MiB,
                .cpu_millis = 100,
                .pids = 16,
                .nofile = 64,
                .tmp_size = MiB,
        };
        struct err e;

        assert_int_equal(io_mkdir_all(rootfs, 0700, &e), 0);
        assert_int_equal(
                io_write_in_place(temp_dir_file(&f->dir, "data/docker/" IMAGE "/image.json"), json,
                                  strlen(json), 0600, &e),
                0);
        if (f->engine->ops->prepare(f->engine, &spec, &e) < 0)
                fail_msg("%s", e.msg);
}

static void run(struct fixture *f, bool bridge)
{
        const struct engine_network network = {.bridge = bridge};

        assert_int_equal(
                f->engine->ops->run(f->engine, f->runc, ID, &network, 5000, on_run, f, NULL), 0);
        WAIT(f);
}

static void what_was_laid_down_is_what_docker_is_told(void **state)
{
        struct fixture *f = *state;

        lay_down(f, true);
        answer(f, "GET /networks/boxes", 200, "{}");
        run(f, true); /* it is not made: 404 */
        assert_int_equal(f->err.code, STATUS_NOT_FOUND);
        assert_true(docker_peer_heard(&f->peer, "POST /v1.43/containers/create?name=sandboxd-" ID));
        json_t *body = json_loads(f->peer.last_body, 0, NULL);
        assert_string_equal(json_text(body, "Image"), "sha256:" IMAGE);
        assert_string_equal(json_text(body, "User"), "1:2");
        assert_string_equal(json_text(json_object_get(body, "HostConfig"), "NetworkMode"), "boxes");
        assert_string_equal(json_text(json_object_get(body, "HostConfig"), "UsernsMode"), "host");
        const json_t *tmpfs = json_object_get(json_object_get(body, "HostConfig"), "Tmpfs");
        assert_string_equal(json_text(tmpfs, "/data"),
                            "rw,exec,nosuid,nodev,uid=1,gid=2,mode=0755,size=1048576");
        json_decref(body);
        _cleanup_free_ char *resolv = f->engine->ops->read_resolv_conf(f->engine, ID);
        assert_string_equal(resolv, "nameserver 192.0.2.1\n");
}

/* A thread that comes late lays it down when the configuration has gone. */
static void laying_down_reads_no_configuration(void **state)
{
        struct fixture *f = *state;
        _cleanup_free_ char *text = NULL;

        f->config = (struct config){.data_dir = NULL};
        lay_down(f, true);
        assert_int_equal(io_read_file(temp_dir_file(&f->dir, "state/bundles/" ID "/create.json"),
                                      64 * 1024, &text, NULL, NULL),
                         0);
        assert_non_null(strstr(text, "\"NetworkMode\":\"boxes\""));
}

static void a_network_that_is_missing_is_made(void **state)
{
        struct fixture *f = *state;

        lay_down(f, true);
        answer(f, "POST /networks/create", 500, "{\"message\":\"no IPv6 here\"}");
        run(f, true);
        assert_int_equal(f->err.code, STATUS_INTERNAL);
        json_t *body = json_loads(f->peer.last_body, 0, NULL); /* of the second try */
        assert_true(json_is_false(json_object_get(body, "EnableIPv6")));
        assert_string_equal(
                json_text(json_object_get(body, "Options"), "com.docker.network.bridge.enable_icc"),
                "false");
        json_decref(body);
        answer(f, "POST /networks/create", 201, "{}");
        answer(f, "GET /networks/boxes", 200, "{}");
        unsigned n = f->peer.n_requests;
        run(f, true);
        assert_int_equal(f->peer.n_requests, n + 2); /* it is asked for, and found */
}

static void podman_makes_no_network_and_is_given_files(void **state)
{
        struct fixture *f = *state;
        _cleanup_free_ char *text = NULL, *profile = NULL, *option = NULL;

        answer(f, "GET /version", 200,
               "{\"ApiVersion\":\"1.43\",\"Components\":[{\"Name\":\"Podman Engine\"}]}");
        docker_peer_listen(&f->peer, &f->l.loop, f->socket);
        open_engine(f);
        lay_down(f, true);
        run(f, true);
        assert_int_equal(f->err.code, STATUS_FAILED_PRECONDITION);
        assert_non_null(strstr(f->err.msg, "podman network create boxes"));
        assert_false(docker_peer_heard(&f->peer, "POST /v1.43/networks/create"));
        assert_int_equal(io_read_file(temp_dir_file(&f->dir, "state/bundles/" ID "/create.json"),
                                      64 * 1024, &text, NULL, NULL),
                         0);
        option = str_printf("\"seccomp=%s\"",
                            temp_dir_file(&f->dir, "state/bundles/" ID "/seccomp.json"));
        assert_non_null(strstr(text, option));
        assert_int_equal(io_read_file(temp_dir_file(&f->dir, "state/bundles/" ID "/seccomp.json"),
                                      64 * 1024, &profile, NULL, NULL),
                         0);
        assert_non_null(strstr(profile, "\"defaultAction\":\"SCMP_ACT_ERRNO\""));
}

static void docker_is_not_believed_everything(void **state)
{
        static const struct {
                const char *create, *inspect, *words;
        } cases[] = {
                {"{\"Id\":\"short\"}", "{}", "gives no id"},
                {"{}", "{}", "gives no id"},
                {"nonsense", "{}", "no JSON object"},
                {"{\"Id\":\"" CID "\"}", "{\"State\":{\"Pid\":1}}",
                 "names process 1 as the sandbox's"},
                {"{\"Id\":\"" CID "\"}", "nonsense", "no JSON object"},
                {"{\"Id\":\"" CID "\"}", "{\"State\":{\"Pid\":-1}}", "ended before"},
                {"{\"Id\":\"" CID "\"}", "{\"State\":{\"Pid\":99999999999}}", "ended before"},
        };
        struct fixture *f = *state;

        lay_down(f, false);
        answer(f, "POST /containers/" CID "/start", 204, "");
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                answer(f, "POST /containers/create", 201, cases[i].create);
                answer(f, "GET /containers/" CID "/json", 200, cases[i].inspect);
                run(f, false);
                assert_int_equal(f->err.code, STATUS_INTERNAL);
                if (!strstr(f->err.msg, cases[i].words))
                        fail_msg("%s", f->err.msg);
        }
        answer(f, "POST /containers/" CID "/start", 500, "{\"message\":\"shim: no\"}");
        run(f, false);
        assert_non_null(strstr(f->err.msg, "shim: no"));
}

static void a_volume_that_was_made_all_the_same_ends_it(void **state)
{
        struct fixture *f = *state;

        lay_down(f, false);
        answer(f, "POST /containers/create", 201, "{\"Id\":\"" CID "\"}");
        answer(f, "POST /containers/" CID "/start", 204, "");
        answer(f, "GET /containers/" CID "/json", 200,
               "{\"State\":{\"Pid\":1},\"Mounts\":[{\"Type\":\"bind\",\"Destination\":\"/run\"},"
               "{\"Type\":\"volume\",\"Destination\":\"/data\"}]}");
        run(f, false);
        assert_int_equal(f->err.code, STATUS_FAILED_PRECONDITION);
        assert_non_null(strstr(f->err.msg, "a volume for the VOLUME '/data'"));
        assert_int_equal(f->pid, 0);
}

static void what_is_gone_is_removed(void **state)
{
        struct fixture *f = *state;
        char what[128];

        lay_down(f, false);
        docker_peer_say(&f->peer, EVENT("create"));
        answer(f, "DELETE " NAME, 500, "{\"message\":\"busy\"}");
        remove_it(f, f->runc);
        assert_int_equal(f->err.code, STATUS_INTERNAL);
        assert_int_equal(docker_peer_count(&f->peer, "DELETE /v1.43" NAME), 6); /* it may pass */
        assert_int_equal(survey(f, what), 1); /* what tells of it stays */
        assert_string_equal(what, "container, bundle");

        answer(f, "DELETE " NAME, 409, "{\"message\":\"in progress\"}");
        answer(f, "POST " NAME "/wait", 200, "{\"StatusCode\":0}");
        remove_it(f, f->runc);
        assert_int_equal(f->err.code, STATUS_OK);
        assert_int_equal(survey(f, what), 0);
        assert_true(docker_peer_heard(&f->peer, "POST /v1.43" NAME "/wait?condition=removed"));
        remove_it(f, f->runc);
        assert_int_equal(f->err.code, STATUS_OK);
        assert_int_equal(f->engine->ops->remove(f->engine, NULL, "short", on_done, f, NULL),
                         -EINVAL);
}

static void an_orphan_is_removed_by_its_label(void **state)
{
        struct fixture *f = *state;

        answer(f, "GET /containers/json", 200, "[{\"Id\":\"" CID "\"}]");
        remove_it(f, NULL); /* it never goes: that has an end too */
        assert_true(docker_peer_heard(&f->peer, "DELETE /v1.43/containers/" CID "?force=1&v=1"));
        answer(f, "GET /containers/json", 200, "[]");
        remove_it(f, NULL);
        assert_int_equal(f->err.code, STATUS_OK);
}

static void what_the_other_engine_has_made_stays(void **state)
{
        struct fixture *f = *state;

        lay_down(f, false);
        assert_int_equal(io_write_atomic(temp_dir_file(&f->dir, "state/bundles/" ID "/" BUNDLE_OCI),
                                         "{}", 2, 0600, NULL),
                         0);
        remove_it(f, f->runc);
        assert_int_equal(f->err.code, STATUS_FAILED_PRECONDITION);
        assert_non_null(strstr(f->err.msg, "engine oci"));
        assert_false(docker_peer_heard(&f->peer, "DELETE "));
}

static void pause_it(struct fixture *f, bool on)
{
        assert_int_equal(f->engine->ops->pause(f->engine, f->runc, ID, on, on_done, f, NULL), 0);
        WAIT(f);
}

static void a_pause_is_looked_at(void **state)
{
        struct fixture *f = *state;

        answer(f, "POST " NAME "/pause", 204, "");
        answer(f, "GET " NAME "/json", 200, "{\"State\":{\"Paused\":true,\"Running\":true}}");
        pause_it(f, true);
        assert_int_equal(f->err.code, STATUS_OK);
        answer(f, "POST " NAME "/pause", 409, "{\"message\":\"already paused\"}");
        pause_it(f, true);
        assert_int_equal(f->err.code, STATUS_OK);
        answer(f, "POST " NAME "/unpause", 204, "");
        pause_it(f, false);
        assert_int_equal(f->err.code, STATUS_INTERNAL);
        assert_non_null(strstr(f->err.msg, "claims success, but the container is paused"));
        answer(f, "POST " NAME "/unpause", 500, "{\"message\":\"cannot\"}");
        pause_it(f, false);
        assert_non_null(strstr(f->err.msg, "cannot"));
}

static void learn_end(struct fixture *f)
{
        assert_int_equal(f->engine->ops->learn_end(f->engine, ID, on_end, f, NULL), 0);
        WAIT(f);
}

static void how_it_ended_is_asked(void **state)
{
        struct fixture *f = *state;
        struct cgroup_usage usage;

        lay_down(f, false);
        learn_end(f);
        assert_int_equal(f->status, PROC_STATUS_UNKNOWN);
        assert_int_equal(f->engine->ops->usage(f->engine, ID, &usage, NULL), -ENOENT);

        answer(f, "POST " NAME "/wait", 200, "{}");
        answer(f, "GET " NAME "/json", 200,
               "{\"State\":{\"Running\":false,\"ExitCode\":137,\"OOMKilled\":true}}");
        /* A head of a frame has zeros in it, which this peer cannot say: none, then. */
        answer(f, "GET " NAME "/logs", 200, "short");
        learn_end(f);
        assert_int_equal(f->status, 137 << 8);
        assert_int_equal(f->engine->ops->usage(f->engine, ID, &usage, NULL), 0);
        assert_int_equal(usage.oom_kills, 1);
}

static void a_list_is_one_or_an_error(void **state)
{
        struct fixture *f = *state;

        answer(f, "GET /containers/json", 200,
               "[{\"Labels\":{\"sandboxd.id\":\"" ID "\"},\"State\":\"paused\"}]");
        assert_int_equal(f->engine->ops->list(f->engine, f->runc, on_list, f, NULL), 0);
        WAIT(f);
        assert_int_equal(f->err.code, STATUS_OK);
        assert_int_equal(f->n_list, 1);
        assert_true(f->paused);
        answer(f, "GET /containers/json", 200, "{}");
        assert_int_equal(f->engine->ops->list(f->engine, f->runc, on_list, f, NULL), 0);
        WAIT(f);
        assert_int_equal(f->err.code, STATUS_INTERNAL);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(what_docker_says_of_itself_is_known),
                ALONE(an_engine_that_is_too_old_or_talks_nonsense_is_told_of),
                ALONE(podman_has_one_runtime_whatever_is_asked_for),
                ALONE(one_that_is_away_is_found_when_it_comes),
                TEST(events_that_end_are_heard_again_from_where_they_ended),
                ALONE(an_engine_that_hangs_holds_nobody_for_ever),
                TEST(containers_of_ours_are_known_by_list_and_events),
                TEST(a_container_of_no_sandbox_goes_at_once),
                TEST(such_a_removal_is_forgotten_when_the_daemon_ends),
                TEST(nor_does_one_that_is_tried_again_outlive_it),
                ALONE(an_image_cannot_make_helpers_of_sandboxes),
                ALONE(helpers_of_an_earlier_daemon_go),
                TEST(events_of_others_and_garbage_do_nothing),
                TEST(a_pause_by_somebody_else_is_told_as_it_is_now),
                ALONE(one_that_is_read_while_docker_is_asked_is_asked_for_again),
                TEST(another_daemon_json_is_read),
                TEST(what_was_laid_down_is_what_docker_is_told),
                TEST(laying_down_reads_no_configuration),
                TEST(a_network_that_is_missing_is_made),
                ALONE(podman_makes_no_network_and_is_given_files),
                TEST(docker_is_not_believed_everything),
                TEST(a_volume_that_was_made_all_the_same_ends_it),
                TEST(what_is_gone_is_removed),
                TEST(an_orphan_is_removed_by_its_label),
                TEST(what_the_other_engine_has_made_stays),
                TEST(a_pause_is_looked_at),
                TEST(how_it_ended_is_asked),
                TEST(a_list_is_one_or_an_error),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
