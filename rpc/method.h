/* Services and methods as data. The tables themselves are generated from the descriptor set at
 * build time (rpc/methods.py writes build/gen/methods.h): for `service SandboxService` there is
 * `sandbox_service` and, for each method, its index `SANDBOX_SERVICE_CREATE`, ...; services of
 * foreign packages bear their full name, `grpc_health_v1_health`. */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>

struct rpc_method {
        const char *name; /* "Create" */
        bool client_streams, server_streams;
        const ProtobufCMessageDescriptor *request, *response;
        bool idempotent; /* its idempotency_level says: done twice is as good as once */
};

struct rpc_service {
        const char *name; /* with its package: "sandboxd.v1.SandboxService" */
        const struct rpc_method *methods;
        size_t n_methods;
};
