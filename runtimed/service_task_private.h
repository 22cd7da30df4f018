/* Between the files of TaskService: service_task.c (Start, Get, List, Cancel, Revert) and
 * service_task_events.c (Events). */
#pragma once

#include "methods.h"
#include "rpc/call.h"
#include "runtimed/service.h"
#include "runtimed/tasks.h"
#include "sandboxd/v1/task.pb-c.h"

void stream_events(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx);
