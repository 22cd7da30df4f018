/* The services of runtimed: protobuf in, calls of the modules, protobuf out. Generated types stop
 * here. What ctx points to must outlive the server. */
#pragma once

#include "rpc/server.h"
#include "runtimed/agent.h"
#include "runtimed/app.h"
#include "runtimed/process_table.h"
#include "runtimed/tasks.h"

/* 128 bits of randomness in hexadecimal: which start of runtimed this is. */
#define BOOT_ID_LEN 32
int boot_id_new(char ret[BOOT_ID_LEN + 1], struct err *e);

struct service_control {
        const char *boot_id;
        struct agents *agents; /* replaced by what the daemon says */
        struct tasks *tasks;
        struct process_table *processes;
};
int service_control_add(struct rpc_server *server, struct service_control *ctx, struct err *e);

struct service_process {
        struct process_table *processes;
        const char *directory; /* where programs start that are given none */
        char **args; /* the program of a request that names none, NULL at the end; only read */
};
int service_process_add(struct rpc_server *server, struct service_process *ctx, struct err *e);

int service_app_add(struct rpc_server *server, struct app *app, struct err *e);

struct service_task {
        uv_loop_t *loop;
        struct tasks *tasks;
        /* Where agents work that are given no directory. */
        const char *(*directory)(void *data);
        void *directory_data;
};
int service_task_add(struct rpc_server *server, struct service_task *ctx, struct err *e);
