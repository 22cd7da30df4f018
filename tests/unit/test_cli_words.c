#include "cli/words.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void words(void **state)
{
        char word[WORD_MAX];

        (void)state;
        word_of_state(SANDBOXD__V1__SANDBOX_STATE__SANDBOX_STATE_DELETING, word);
        assert_string_equal(word, "deleting");
        word_of_state((Sandboxd__V1__SandboxState)99, word);
        assert_string_equal(word, "unknown");
        word_of_operation(SANDBOXD__V1__OPERATION_KIND__OPERATION_KIND_CLEAN_UP, word);
        assert_string_equal(word, "clean_up");
        word_of_exit_cause(SANDBOXD__V1__EXIT_CAUSE__EXIT_CAUSE_OUT_OF_MEMORY, word);
        assert_string_equal(word, "out_of_memory");
        word_of_expiry(SANDBOXD__V1__EXPIRY_ACTION__EXPIRY_ACTION_UNSPECIFIED, word);
        assert_string_equal(word, "unspecified");
        word_of_event(SANDBOXD__V1__EVENT_KIND__EVENT_KIND_ORPHAN, word);
        assert_string_equal(word, "orphan");
        word_of_app_health(SANDBOXD__V1__APP_HEALTH__APP_HEALTH_READY, word);
        assert_string_equal(word, "ready");
        word_of_app_program(SANDBOXD__V1__APP_PROGRAM_STATE__APP_PROGRAM_STATE_GIVEN_UP, word);
        assert_string_equal(word, "given_up");
        word_of_app_end(SANDBOXD__V1__APP_END_CAUSE__APP_END_CAUSE_ITSELF, word);
        assert_string_equal(word, "itself");
        word_of_app_build(SANDBOXD__V1__APP_BUILD_STATUS__APP_BUILD_STATUS_SKIPPED, word);
        assert_string_equal(word, "skipped");
}

/* Each state's word leads back to it. */
static void there_and_back(void **state)
{
        const ProtobufCEnumDescriptor *type = &sandboxd__v1__sandbox_state__descriptor;
        Sandboxd__V1__SandboxState back;
        char word[WORD_MAX];

        (void)state;
        for (unsigned i = 1; i < type->n_values; i++) {
                word_of_state((Sandboxd__V1__SandboxState)type->values[i].value, word);
                assert_true(state_of_word(word, &back));
                assert_int_equal(back, type->values[i].value);
        }
        assert_false(state_of_word("unspecified", &back));
        assert_false(state_of_word("", &back));
        assert_false(state_of_word("Running", &back));
}

/* No operation was forgotten. */
static void progress(void **state)
{
        const ProtobufCEnumDescriptor *type = &sandboxd__v1__operation_kind__descriptor;

        (void)state;
        for (unsigned i = 1; i < type->n_values; i++)
                assert_true(*word_of_progress((Sandboxd__V1__OperationKind)type->values[i].value));
        assert_string_equal(word_of_progress(SANDBOXD__V1__OPERATION_KIND__OPERATION_KIND_RESUME),
                            "resuming");
        assert_string_equal(word_of_progress((Sandboxd__V1__OperationKind)0), "");
        assert_string_equal(word_of_progress((Sandboxd__V1__OperationKind)-1), "");
        assert_string_equal(word_of_progress((Sandboxd__V1__OperationKind)99), "");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(words),
                cmocka_unit_test(there_and_back),
                cmocka_unit_test(progress),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
