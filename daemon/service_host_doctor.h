/* HostService.Doctor: one examination of the host at a time, its findings streamed. */
#pragma once

#include <stdbool.h>

#include "daemon/doctor.h"
#include "rpc/call.h"

struct service_host_doctor {
        struct doctor *doctor; /* NULL: none is under way */
        struct rpc_call *call; /* then NULL too */
        struct doctor_list doctors;
        bool stopped;
};

/* The handler; ctx is a struct service_host. */
void service_host_on_doctor(struct rpc_call *call, const uint8_t *message, size_t n, void *ctx);
void service_host_doctor_stop(struct service_host_doctor *s);
