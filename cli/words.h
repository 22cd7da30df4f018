/* The API's enums as words: "running" for SANDBOX_STATE_RUNNING. */
#pragma once

#include <stdbool.h>

#include "sandboxd/v1/app.pb-c.h"
#include "sandboxd/v1/sandbox.pb-c.h"
#include "sandboxd/v1/task.pb-c.h"

/* "unspecified" for 0, "unknown" for values of later versions. */
#define WORD_MAX 32
void word_of_state(Sandboxd__V1__SandboxState state, char ret[WORD_MAX]);
void word_of_operation(Sandboxd__V1__OperationKind kind, char ret[WORD_MAX]);
void word_of_exit_cause(Sandboxd__V1__ExitCause cause, char ret[WORD_MAX]);
void word_of_network(Sandboxd__V1__NetworkMode mode, char ret[WORD_MAX]);
void word_of_rootfs(Sandboxd__V1__RootfsMode mode, char ret[WORD_MAX]);
void word_of_expiry(Sandboxd__V1__ExpiryAction action, char ret[WORD_MAX]);
void word_of_event(Sandboxd__V1__EventKind kind, char ret[WORD_MAX]);
void word_of_app_health(Sandboxd__V1__AppHealth health, char ret[WORD_MAX]);
void word_of_app_program(Sandboxd__V1__AppProgramState state, char ret[WORD_MAX]);
void word_of_app_end(Sandboxd__V1__AppEndCause cause, char ret[WORD_MAX]);
void word_of_app_build(Sandboxd__V1__AppBuildStatus status, char ret[WORD_MAX]);
void word_of_task_phase(Sandboxd__V1__TaskPhase phase, char ret[WORD_MAX]);
void word_of_task_status(Sandboxd__V1__TaskStatus status, char ret[WORD_MAX]);
void word_of_task_failure(Sandboxd__V1__TaskFailure failure, char ret[WORD_MAX]);
void word_of_task_build(Sandboxd__V1__TaskBuild build, char ret[WORD_MAX]);
void word_of_task_health(Sandboxd__V1__TaskHealth health, char ret[WORD_MAX]);
void word_of_file_change(Sandboxd__V1__FileChangeKind kind, char ret[WORD_MAX]);

/* False when there is no such state. */
bool state_of_word(const char *word, Sandboxd__V1__SandboxState *ret);

/* "pausing" for OPERATION_KIND_PAUSE; "" for those of later versions. */
const char *word_of_progress(Sandboxd__V1__OperationKind kind);
