/* The images of the engine on a Docker that says what the test tells it to. */
#include "tests/unit/engine_docker_fixture.h"

static void find(struct fixture *f, const char *reference)
{
        struct err e;

        if (f->engine->ops->find_image(f->engine, reference, 1000, on_step, on_image, f, &e) < 0)
                fail_msg("%s", e.msg);
        WAIT(f);
}

static void what_is_no_reference_is_refused(void **state)
{
        static const char *const bad[] = {"",   "/srv/root", "a/../b", "a b",  "a?x=1",    "a//b",
                                          "-a", "a/",        "a%2f",   "a\nb", "@sha256:0"};
        struct fixture *f = *state;
        struct err e;

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                assert_int_equal(f->engine->ops->find_image(f->engine, bad[i], 1000, on_step,
                                                            on_image, f, &e),
                                 -EINVAL);
                assert_non_null(strstr(e.msg, "no reference"));
        }
}

static void an_image_that_is_missing_is_pulled(void **state)
{
        struct fixture *f = *state;

        answer(f, "POST /images/create", 200,
               "{\"status\":\"Downloading\",\"id\":\"l1\",\"progressDetail\":{\"current\":1048576,"
               "\"total\":4194304}}\n{\"status\":\"Done\"}\n");
        find(f, "reg.example:5000/team/box");
        assert_int_equal(f->err.code, STATUS_NOT_FOUND); /* it says that it is there, and is not */
        assert_true(docker_peer_heard(&f->peer,
                                      "POST /v1.43/images/create?fromImage=reg.example%3A5000%2F"
                                      "team%2Fbox&tag=latest"));
        assert_true(f->n_steps > 0);
        find(f, "box:1.2@sha256:" IMAGE);
        assert_true(docker_peer_heard(
                &f->peer, "POST /v1.43/images/create?fromImage=box%3A1.2%40sha256%3A" IMAGE));

        answer(f, "POST /images/create", 500, "{\"message\":\"no such host\"}");
        find(f, "box");
        assert_int_equal(f->err.code, STATUS_NOT_FOUND);
        assert_non_null(strstr(f->err.msg, "no such host"));
        answer(f, "POST /images/create", 200, "{\"error\":\"manifest unknown\"}\n");
        find(f, "box");
        assert_int_equal(f->err.code, STATUS_NOT_FOUND);
        assert_non_null(strstr(f->err.msg, "cannot be pulled: manifest unknown"));
}

static void an_image_with_endless_labels_is_refused(void **state)
{
        struct fixture *f = *state;
        _cleanup_free_ char *label = malloc(20000);

        assert_non_null(label);
        memset(label, 'x', 19999);
        label[19999] = '\0';
        _cleanup_free_ char *inspected = str_printf(
                "{\"Id\":\"sha256:" IMAGE "\",\"Config\":{\"Labels\":{\"a\":\"%s\"}}}", label);
        answer(f, "GET /images/box/json", 200, inspected);
        find(f, "box");
        assert_int_equal(f->err.code, STATUS_FAILED_PRECONDITION);
        assert_non_null(strstr(f->err.msg, "bytes of labels"));
        assert_false(docker_peer_heard(&f->peer, "POST "));
}

static void volumes_are_none_of_docker(void **state)
{
        struct fixture *f = *state;

        answer(f, "GET /images/box/json", 200,
               "{\"Id\":\"sha256:" IMAGE "\",\"Config\":{\"Volumes\":{\"/data//\":{}}}}");
        answer(f, "POST /containers/create", PEER_NEVER, "");
        assert_int_equal(
                f->engine->ops->find_image(f->engine, "box", 200, on_step, on_image, f, NULL), 0);
        LOOP_UNTIL(&f->l, docker_peer_heard(&f->peer, "POST /v1.43/containers/create"));
        json_t *body = json_loads(f->peer.last_body, 0, NULL);
        const json_t *tmpfs = json_object_get(json_object_get(body, "HostConfig"), "Tmpfs");
        assert_non_null(json_object_get(tmpfs, "/data"));
        json_decref(body);
        WAIT(f);

        answer(f, "GET /images/box/json", 200,
               "{\"Id\":\"sha256:" IMAGE "\",\"Config\":{\"Volumes\":{\"/data\":{},\"/etc\":{}}}}");
        find(f, "box");
        assert_int_equal(f->err.code, STATUS_FAILED_PRECONDITION);
        assert_non_null(strstr(f->err.msg, "image 'box' declares the VOLUME '/etc'"));
        assert_int_equal(docker_peer_count(&f->peer, "POST /v1.43/containers/create"), 1);
}

/* 18 MiB, as some 9,000 sandboxes have. */
static void a_long_list_of_containers_is_read(void **state)
{
        struct fixture *f = *state;
        size_t n = 18 * MiB;
        _cleanup_free_ char *list = malloc(n + 1);

        assert_non_null(list);
        memset(list, ' ', n);
        list[0] = '[';
        list[n - 1] = ']';
        list[n] = '\0';
        answer(f, "GET /containers/json", 200, list);
        docker_peer_listen(&f->peer, &f->l.loop, f->socket);
        open_engine(f);
        assert_string_equal(f->engine->problem, "");
        assert_int_equal(f->engine->ops->list(f->engine, f->runc, on_list, f, NULL), 0);
        WAIT(f);
        assert_int_equal(f->err.code, STATUS_OK);
}

/* Deeper than a path can be: so an image may have it. */
static void what_was_read_of_images_goes_however_deep_it_lies(void **state)
{
        struct fixture *f = *state;
        char name[201] = "";
        struct err e;

        memset(name, 'd', sizeof(name) - 1);
        assert_int_equal(io_mkdir_all(temp_dir_file(&f->dir, "data/docker/staging-x"), 0700, &e),
                         0);
        int at = open(temp_dir_file(&f->dir, "data/docker/staging-x"), O_RDONLY | O_DIRECTORY);
        for (int i = 0; i < 30; i++) {
                assert_int_equal(mkdirat(at, name, 0700), 0);
                int below = openat(at, name, O_RDONLY | O_DIRECTORY);
                assert_true(below >= 0);
                (void)close(at);
                at = below;
        }
        (void)close(at);
        docker_peer_listen(&f->peer, &f->l.loop, f->socket);
        open_engine(f);
        assert_int_equal(access(temp_dir_file(&f->dir, "data/docker/staging-x"), F_OK), -1);
}

static void find_different(struct fixture *f, int n, unsigned timeout_ms)
{
        char reference[16], line[32], inspected[128];

        for (int i = 0; i < n; i++) {
                (void)str_format(reference, sizeof(reference), "box%d", i);
                (void)str_format(line, sizeof(line), "GET /images/box%d/json", i);
                (void)str_format(inspected, sizeof(inspected), "{\"Id\":\"sha256:%.63s%d\"}", IMAGE,
                                 i);
                answer(f, line, 200, inspected);
                assert_int_equal(f->engine->ops->find_image(f->engine, reference, timeout_ms,
                                                            on_step, on_image, f, NULL),
                                 0);
        }
}

/* Of what was read: a child removes it. */
static bool nothing_is_left(const struct fixture *f)
{
        return rmdir(temp_dir_file(&f->dir, "data/docker")) == 0;
}

static void four_images_are_read_at_once(void **state)
{
        struct fixture *f = *state;

        answer(f, "POST /containers/create", PEER_NEVER, "");
        find_different(f, 6, 1000);
        loop_run_for(&f->l, 200);
        assert_int_equal(docker_peer_count(&f->peer, "POST /v1.43/containers/create"), 4);
        LOOP_UNTIL(&f->l, f->n_done == 6);
        LOOP_UNTIL(&f->l, nothing_is_left(f));
        assert_int_equal(f->err.code, STATUS_DEADLINE_EXCEEDED);
}

/* Who waits for that gets on when one has come to its end, and then there is no more to read. */
static void who_waits_for_that_goes_on(void **state)
{
        struct fixture *f = *state;

        answer(f, "POST /containers/create", 500, "{}");
        find_different(f, 9, 10000);
        LOOP_UNTIL(&f->l, f->n_done == 9);
        LOOP_UNTIL(&f->l, nothing_is_left(f));
        assert_int_equal(docker_peer_count(&f->peer, "POST /v1.43/containers/create"), 9);
        assert_int_equal(f->err.code, STATUS_INTERNAL);
}

static void nothing_is_pulled_where_that_is_not_allowed(void **state)
{
        struct fixture *f = *state;

        f->config.docker.pull = (char *)"never";
        find(f, "box");
        assert_int_equal(f->err.code, STATUS_NOT_FOUND);
        assert_non_null(strstr(f->err.msg, "docker.pull is 'never'"));
        assert_false(docker_peer_heard(&f->peer, "POST "));
}

static void nothing_is_pulled_from_other_registries(void **state)
{
        static char *registries[] = {(char *)"docker.io/library", NULL};
        struct fixture *f = *state;

        f->config.images.registries = registries;
        find(f, "evil.example/debian:12");
        assert_int_equal(f->err.code, STATUS_PERMISSION_DENIED);
        assert_non_null(strstr(f->err.msg, "image 'evil.example/debian:12' is "
                                           "evil.example/debian, which images.registries"));
        assert_false(docker_peer_heard(&f->peer, "POST "));
        find(f, "debian:12"); /* it cannot be had: 404 */
        assert_int_equal(f->err.code, STATUS_NOT_FOUND);
        assert_true(docker_peer_heard(&f->peer, "POST /v1.43/images/create?fromImage=debian%3A12"));
}

static void a_pull_is_shared_and_goes_on(void **state)
{
        struct fixture *f = *state;

        answer(f, "POST /images/create", PEER_FOR_EVER, "");
        for (int i = 0; i < 3; i++)
                assert_int_equal(f->engine->ops->find_image(f->engine, "box", 300, on_step,
                                                            on_image, f, NULL),
                                 0);
        LOOP_UNTIL(&f->l, f->n_done == 3);
        assert_int_equal(f->err.code, STATUS_DEADLINE_EXCEEDED);
        assert_non_null(strstr(f->err.msg, "it goes on: retry later"));
        unsigned pulls = 0;
        for (unsigned i = 0; i < f->peer.n_requests; i++)
                pulls += str_starts(f->peer.requests[i], "POST /v1.43/images/create");
        assert_int_equal(pulls, 1);
}

static void registries_that_hang_hold_up_nothing_else(void **state)
{
        struct fixture *f = *state;
        char reference[32];

        answer(f, "POST /images/create", PEER_FOR_EVER, "");
        answer(f, "DELETE " NAME, 204, "");
        for (int i = 0; i < 40; i++) {
                (void)str_format(reference, sizeof(reference), "tarpit.example/%d", i);
                f->n_done = 0;
                assert_int_equal(f->engine->ops->find_image(f->engine, reference, 30, on_step,
                                                            on_image, f, NULL),
                                 0);
                WAIT(f);
        }
        assert_int_equal(f->err.code, STATUS_RESOURCE_EXHAUSTED);
        assert_int_equal(docker_peer_count(&f->peer, "POST /v1.43/images/create"), 8);
        f->n_done = 0;
        remove_it(f, f->runc);
        assert_int_equal(f->err.code, STATUS_OK);
}

static void the_image_of_trials_is_no_registrys(void **state)
{
        struct fixture *f = *state;

        answer(f, "GET /images/sandboxd/trial:1/json", 200,
               "{\"Id\":\"sha256:" IMAGE "\",\"RootFS\":{\"Layers\":[\"sha256:" IMAGE "\"]}}");
        answer(f, "GET /info", 200,
               "{\"Runtimes\":{\"runc\":{\"path\":\"runc\"},\"runsc\":{\"path\":\"/new/runsc\"}}}");
        docker_peer_say(&f->peer, "{\"Type\":\"daemon\",\"Action\":\"reload\"}\n");
        LOOP_UNTIL(&f->l, docker_peer_heard(&f->peer, "POST /v1.43/images/create?fromSrc=-"));
        LOOP_UNTIL(&f->l, f->runsc->problem[0] == '\0');
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(what_is_no_reference_is_refused),
                TEST(an_image_that_is_missing_is_pulled),
                TEST(an_image_with_endless_labels_is_refused),
                TEST(volumes_are_none_of_docker),
                ALONE(a_long_list_of_containers_is_read),
                ALONE(what_was_read_of_images_goes_however_deep_it_lies),
                TEST(four_images_are_read_at_once),
                TEST(who_waits_for_that_goes_on),
                TEST(nothing_is_pulled_where_that_is_not_allowed),
                TEST(nothing_is_pulled_from_other_registries),
                TEST(a_pull_is_shared_and_goes_on),
                TEST(registries_that_hang_hold_up_nothing_else),
                TEST(the_image_of_trials_is_no_registrys),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
