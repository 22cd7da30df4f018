/* Which roles a peer has, and what they let do with what somebody owns. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "daemon/access.h"
#include "rpc/wire.h"

#define ALICE     1001
#define BOB       1002
#define DEVELOPER 2001
#define OPERATOR  2002
#define MISSING   2003

#define GRANT(id_, role_)                                                         \
        {                                                                         \
                .who = {.id = (id_), .exists = true}, .role = CONFIG_ROLE_##role_ \
        }

static struct config_grant users[] = {GRANT(ALICE, ADMIN)};
static struct config_grant groups[] = {
        GRANT(DEVELOPER, USER),
        GRANT(OPERATOR, OBSERVER),
        {.who = {.id = MISSING, .exists = false}, .role = CONFIG_ROLE_ADMIN},
};
static const struct config_access access_config = {
        .users = {.items = users, .n = ARRAY_SIZE(users)},
        .groups = {.items = groups, .n = ARRAY_SIZE(groups)},
};

static void roles(void **state)
{
        static const struct {
                uid_t uid;
                gid_t gid;
                gid_t groups[4]; /* 0 at the end */
                unsigned roles;
                const char *text;
        } cases[] = {
                {0, 0, {0}, ROLE_ADMIN, "admin"},
                {ALICE, 100, {0}, ROLE_ADMIN, "admin"},
                {ALICE, 100, {OPERATOR}, ROLE_ADMIN | ROLE_OBSERVER, "admin, observer"},
                {BOB, 100, {0}, 0, "none"},
                {BOB, 100, {5, 6, 7}, 0, "none"},
                {BOB, DEVELOPER, {0}, ROLE_USER, "user"},
                {BOB, 100, {5, DEVELOPER}, ROLE_USER, "user"},
                {BOB, 100, {OPERATOR}, ROLE_OBSERVER, "observer"},
                {BOB, OPERATOR, {DEVELOPER}, ROLE_USER | ROLE_OBSERVER, "user, observer"},
                {BOB, MISSING, {MISSING}, 0, "none"},
                {DEVELOPER, 100, {0}, 0, "none"}, /* a uid is no gid */
                {BOB, ALICE, {ALICE}, 0, "none"},
                {(uid_t)-1, (gid_t)-1, {0}, 0, "none"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct rpc_peer peer = {.uid = cases[i].uid, .gid = cases[i].gid};
                char text[ROLES_TEXT_MAX];
                gid_t own[4];
                memcpy(own, cases[i].groups, sizeof(own));
                peer.groups = own;
                while (own[peer.n_groups])
                        peer.n_groups++;
                unsigned found = access_roles(&access_config, &peer);
                assert_int_equal(found, cases[i].roles);
                assert_string_equal(access_roles_text(found, text), cases[i].text);
        }
        char all[ROLES_TEXT_MAX];
        assert_string_equal(access_roles_text(ROLE_ADMIN | ROLE_USER | ROLE_OBSERVER, all),
                            "admin, user, observer");
}

static void owners(void **state)
{
        static const struct {
                unsigned roles;
                bool use_own, use_foreign, see_own, see_foreign;
        } cases[] = {
                {0, false, false, false, false},
                {ROLE_OBSERVER, false, false, true, true},
                {ROLE_USER, true, false, true, false},
                {ROLE_USER | ROLE_OBSERVER, true, false, true, true},
                {ROLE_ADMIN, true, true, true, true},
        };
        struct rpc_session session = {.peer = {.uid = ALICE}};
        struct rpc_call call = {.session = &session};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                rpc_call_set_rights(&call, cases[i].roles);
                assert_int_equal(access_may_use(&call, ALICE), cases[i].use_own);
                assert_int_equal(access_may_use(&call, BOB), cases[i].use_foreign);
                assert_int_equal(access_may_see(&call, ALICE), cases[i].see_own);
                assert_int_equal(access_may_see(&call, BOB), cases[i].see_foreign);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(roles),
                cmocka_unit_test(owners),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
