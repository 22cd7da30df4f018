#include "cli/words.h"

#include <ctype.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"

static void word(const ProtobufCEnumDescriptor *type, int number, const char *prefix,
                 char ret[WORD_MAX])
{
        const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(type, number);

        (void)str_format(ret, WORD_MAX, "%s", value ? value->name + strlen(prefix) : "unknown");
        for (char *c = ret; *c; c++)
                *c = (char)tolower((unsigned char)*c);
}

void word_of_state(Sandboxd__V1__SandboxState state, char ret[WORD_MAX])
{
        word(&sandboxd__v1__sandbox_state__descriptor, (int)state, "SANDBOX_STATE_", ret);
}

void word_of_operation(Sandboxd__V1__OperationKind kind, char ret[WORD_MAX])
{
        word(&sandboxd__v1__operation_kind__descriptor, (int)kind, "OPERATION_KIND_", ret);
}

void word_of_exit_cause(Sandboxd__V1__ExitCause cause, char ret[WORD_MAX])
{
        word(&sandboxd__v1__exit_cause__descriptor, (int)cause, "EXIT_CAUSE_", ret);
}

void word_of_expiry(Sandboxd__V1__ExpiryAction action, char ret[WORD_MAX])
{
        word(&sandboxd__v1__expiry_action__descriptor, (int)action, "EXPIRY_ACTION_", ret);
}

void word_of_network(Sandboxd__V1__NetworkMode mode, char ret[WORD_MAX])
{
        word(&sandboxd__v1__network_mode__descriptor, (int)mode, "NETWORK_MODE_", ret);
}

void word_of_rootfs(Sandboxd__V1__RootfsMode mode, char ret[WORD_MAX])
{
        word(&sandboxd__v1__rootfs_mode__descriptor, (int)mode, "ROOTFS_MODE_", ret);
        for (char *c = ret; (c = strchr(c, '_'));)
                *c = '-'; /* as `create --rootfs` has it */
}

void word_of_event(Sandboxd__V1__EventKind kind, char ret[WORD_MAX])
{
        word(&sandboxd__v1__event_kind__descriptor, (int)kind, "EVENT_KIND_", ret);
}

void word_of_app_health(Sandboxd__V1__AppHealth health, char ret[WORD_MAX])
{
        word(&sandboxd__v1__app_health__descriptor, (int)health, "APP_HEALTH_", ret);
}

void word_of_app_program(Sandboxd__V1__AppProgramState state, char ret[WORD_MAX])
{
        word(&sandboxd__v1__app_program_state__descriptor, (int)state, "APP_PROGRAM_STATE_", ret);
}

void word_of_app_end(Sandboxd__V1__AppEndCause cause, char ret[WORD_MAX])
{
        word(&sandboxd__v1__app_end_cause__descriptor, (int)cause, "APP_END_CAUSE_", ret);
}

void word_of_app_build(Sandboxd__V1__AppBuildStatus status, char ret[WORD_MAX])
{
        word(&sandboxd__v1__app_build_status__descriptor, (int)status, "APP_BUILD_STATUS_", ret);
}

void word_of_task_phase(Sandboxd__V1__TaskPhase phase, char ret[WORD_MAX])
{
        word(&sandboxd__v1__task_phase__descriptor, (int)phase, "TASK_PHASE_", ret);
}

void word_of_task_status(Sandboxd__V1__TaskStatus status, char ret[WORD_MAX])
{
        word(&sandboxd__v1__task_status__descriptor, (int)status, "TASK_STATUS_", ret);
}

void word_of_task_failure(Sandboxd__V1__TaskFailure failure, char ret[WORD_MAX])
{
        word(&sandboxd__v1__task_failure__descriptor, (int)failure, "TASK_FAILURE_", ret);
}

void word_of_task_build(Sandboxd__V1__TaskBuild build, char ret[WORD_MAX])
{
        word(&sandboxd__v1__task_build__descriptor, (int)build, "TASK_BUILD_", ret);
}

void word_of_task_health(Sandboxd__V1__TaskHealth health, char ret[WORD_MAX])
{
        word(&sandboxd__v1__task_health__descriptor, (int)health, "TASK_HEALTH_", ret);
}

void word_of_file_change(Sandboxd__V1__FileChangeKind kind, char ret[WORD_MAX])
{
        word(&sandboxd__v1__file_change_kind__descriptor, (int)kind, "FILE_CHANGE_KIND_", ret);
}

bool state_of_word(const char *text, Sandboxd__V1__SandboxState *ret)
{
        const ProtobufCEnumDescriptor *type = &sandboxd__v1__sandbox_state__descriptor;
        char name[WORD_MAX];

        for (unsigned i = 0; i < type->n_values; i++) {
                Sandboxd__V1__SandboxState state =
                        (Sandboxd__V1__SandboxState)type->values[i].value;
                word_of_state(state, name);
                if (!str_eq(text, name) ||
                    state == SANDBOXD__V1__SANDBOX_STATE__SANDBOX_STATE_UNSPECIFIED)
                        continue;
                *ret = state;
                return true;
        }
        return false;
}

const char *word_of_progress(Sandboxd__V1__OperationKind kind)
{
        static const char *const words[] = {
                [SANDBOXD__V1__OPERATION_KIND__OPERATION_KIND_CREATE] = "creating",
                [SANDBOXD__V1__OPERATION_KIND__OPERATION_KIND_START] = "starting",
                [SANDBOXD__V1__OPERATION_KIND__OPERATION_KIND_STOP] = "stopping",
                [SANDBOXD__V1__OPERATION_KIND__OPERATION_KIND_PAUSE] = "pausing",
                [SANDBOXD__V1__OPERATION_KIND__OPERATION_KIND_RESUME] = "resuming",
                [SANDBOXD__V1__OPERATION_KIND__OPERATION_KIND_DELETE] = "deleting",
                [SANDBOXD__V1__OPERATION_KIND__OPERATION_KIND_CLEAN_UP] = "cleaning up",
        };
        const char *text = (unsigned)kind < ARRAY_SIZE(words) ? words[kind] : NULL;

        return text ? text : "";
}
