/* Users, groups and roles in the configuration: what is accepted, and what is refused in which
 * words. The names are those of Debian's base-passwd. */
#include "tests/unit/config_fixture.h"

#define A_GROUP "expected the name or number of a group of this host, found "
#define A_USER  "expected the name or number of a user of this host, found "

static void wrong_ones_are_refused(void **state)
{
        static const struct {
                const char *yaml, *message;
        } wrong[] = {
                {"socket_group: no-such-group\n",
                 "t.yaml:1:15: socket_group: " A_GROUP "'no-such-group'"},
                {"socket_group: sandboxd-no-such\n",
                 "t.yaml:1:15: socket_group: " A_GROUP "'sandboxd-no-such'"},
                {"socket_group: ''\n",
                 "t.yaml:1:15: socket_group: expected the name or number of a group of this host, "
                 "found nothing"},
                {"socket_group: 4294967295\n", /* nobody's, chown(2) */
                 "t.yaml:1:15: socket_group: " A_GROUP "'4294967295'"},
                {"socket_group: [root]\n",
                 "t.yaml:1:15: socket_group: expected a single value, found a list"},
                {"access:\n  users: {no-such-user: user}\n",
                 "t.yaml:2:11: access.users.no-such-user: " A_USER "'no-such-user'"},
                {"access:\n  groups: {daemon: user, no-such-group: user}\n",
                 "t.yaml:2:26: access.groups.no-such-group: " A_GROUP "'no-such-group'"},
                {"access: {users: {daemon: owner}}\n",
                 "t.yaml:1:26: access.users.daemon: expected one of observer, user, admin, found "
                 "'owner'"},
                {"access: {users: {daemon: ''}}\n",
                 "t.yaml:1:26: access.users.daemon: expected one of observer, user, admin, found "
                 "nothing"},
                {"access: {users: {daemon: [user, observer]}}\n",
                 "t.yaml:1:26: access.users.daemon: expected a single value, found a list"},
                {"access: {users: {root: observer}}\n",
                 "t.yaml:1:24: access.users.root: expected admin, or nothing at all, for root is "
                 "always that, found 'observer'"},
                {"access: {users: {0: user}}\n",
                 "t.yaml:1:21: access.users.0: expected admin, or nothing at all, for root is "
                 "always that, found 'user'"},
                {"access: {users: {-1: user}}\n", "t.yaml:1:18: access.users.-1: " A_USER "'-1'"},
                {"access: {users: {daemon: user, daemon: admin}}\n",
                 "t.yaml:1:32: access.users.daemon: expected each key once, found it first on line "
                 "1"},
                {"access: {users: [daemon]}\n",
                 "t.yaml:1:17: access.users: expected a mapping of keys to values, found a list"},
                {"access: {user: {daemon: user}}\n",
                 "t.yaml:1:10: access.user: unknown key; did you mean 'users'?"},
                {"access: admin\n",
                 "t.yaml:1:9: access: expected a mapping of keys to values, found 'admin'"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
                assert_refused(wrong[i].yaml, wrong[i].message);
}

static void there_are_not_too_many(void **state)
{
        char yaml[4096];
        size_t n = (size_t)snprintf(yaml, sizeof(yaml), "access: {users: {");

        (void)state;
        for (int i = 1; i <= 65; i++)
                n += (size_t)snprintf(yaml + n, sizeof(yaml) - n, "%d: user, ", i);
        (void)snprintf(yaml + n, sizeof(yaml) - n, "}}");
        assert_refused(yaml, "t.yaml:1:17: access.users: expected at most 64 items, found 65");
}

static void assert_principal(const struct config_principal *p, const char *name, uint32_t id)
{
        assert_string_equal(p->name, name);
        assert_true(p->exists);
        assert_int_equal(p->id, id);
}

static void assert_grant(const struct config_grants *grants, size_t i, const char *name,
                         uint32_t id, enum config_role role)
{
        assert_true(i < grants->n);
        assert_principal(&grants->items[i].who, name, id);
        assert_int_equal(grants->items[i].role, role);
}

static const char full[] = "socket_group: adm\n"
                           "access:\n"
                           "  users: {root: admin, bin: observer, 4294967294: user}\n"
                           "  groups:\n"
                           "    daemon: observer\n"
                           "    0: user\n";

static void assert_full(const struct config *c)
{
        assert_principal(&c->socket_group, "adm", 4);
        assert_int_equal(c->access.users.n, 3);
        assert_grant(&c->access.users, 0, "root", 0, CONFIG_ROLE_ADMIN);
        assert_grant(&c->access.users, 1, "bin", 2, CONFIG_ROLE_OBSERVER);
        assert_grant(&c->access.users, 2, "4294967294", UINT32_MAX - 1, CONFIG_ROLE_USER);
        assert_int_equal(c->access.groups.n, 2); /* the default is not among them */
        assert_grant(&c->access.groups, 0, "daemon", 1, CONFIG_ROLE_OBSERVER);
        assert_grant(&c->access.groups, 1, "0", 0, CONFIG_ROLE_USER);
}

static void names_become_numbers(void **state)
{
        struct config c, again;

        (void)state;
        assert_int_equal(load(full, &c, NULL), 0);
        assert_full(&c);
        _cleanup_free_ char *printed = config_print(&c);
        assert_int_equal(load(printed, &again, NULL), 0);
        assert_full(&again);
        config_done(&c);
        config_done(&again);
}

static void the_default_group_may_be_missing(void **state)
{
        struct config c, again;

        (void)state;
        assert_int_equal(load_file(NULL, &c, NULL), 0);
        assert_string_equal(c.socket_group.name, "sandboxd");
        assert_int_equal(c.access.users.n, 0);
        assert_int_equal(c.access.groups.n, 1);
        assert_string_equal(c.access.groups.items[0].who.name, "sandboxd");
        assert_int_equal(c.access.groups.items[0].role, CONFIG_ROLE_USER);
        assert_int_equal(c.socket_group.exists, c.access.groups.items[0].who.exists);
        /* What is printed is a configuration for this host, whether it has the group or not. */
        _cleanup_free_ char *printed = config_print(&c);
        assert_int_equal(load(printed, &again, NULL), 0);
        assert_int_equal(again.access.groups.n, 1);
        config_done(&c);
        config_done(&again);
        assert_int_equal(load("socket_group: sandboxd\n"
                              "access: {groups: {adm: observer, sandboxd: admin}}\n",
                              &c, NULL),
                         0); /* what is the default may be said, too */
        assert_int_equal(c.access.groups.items[1].who.exists, c.socket_group.exists);
        config_done(&c);
        assert_int_equal(load("access: {groups: {}}\n", &c, NULL), 0); /* nobody but root */
        assert_int_equal(c.access.groups.n, 0);
        config_done(&c);
}

/* Of several places the last one that says something counts, whole. */
static void the_last_one_counts(void **state)
{
        static const char *const sets[] = {"access.groups=adm: user, 2: observer", NULL};
        const struct config_sources sources = {.file = FILE_NAME, .sets = sets};
        struct config c;

        (void)state;
        write_file(FILE_NAME, full, strlen(full));
        assert_int_equal(config_load(&sources, &c, NULL), 0);
        assert_int_equal(c.access.users.n, 3);
        assert_int_equal(c.access.groups.n, 2);
        assert_grant(&c.access.groups, 0, "adm", 4, CONFIG_ROLE_USER);
        assert_grant(&c.access.groups, 1, "2", 2, CONFIG_ROLE_OBSERVER);
        config_done(&c);
}

static void wrong_ones_of_the_command_line(void **state)
{
        static const struct {
                const char *set, *message;
        } wrong[] = {
                {"access.groups=no-such-group: user",
                 "--set access.groups: " A_GROUP "'no-such-group'"},
                {"access.groups=adm", "--set access.groups: expected one of observer, user, admin, "
                                      "found nothing"},
                {"access.users=bin: user,", NULL}, /* a comma more is fine, as in a list */
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                const char *const sets[] = {wrong[i].set, NULL};
                const struct config_sources sources = {.sets = sets};
                struct config c;
                if (wrong[i].message) {
                        assert_sources_refused(&sources, wrong[i].message);
                        continue;
                }
                assert_int_equal(config_load(&sources, &c, NULL), 0);
                config_done(&c);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(wrong_ones_are_refused),
                cmocka_unit_test(there_are_not_too_many),
                cmocka_unit_test(names_become_numbers),
                cmocka_unit_test(the_default_group_may_be_missing),
                cmocka_unit_test(the_last_one_counts),
                cmocka_unit_test(wrong_ones_of_the_command_line),
        };

        return cmocka_run_group_tests(tests, enter_scratch, leave_scratch);
}
