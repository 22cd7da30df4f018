/* The client of a fuzzed server: says what a program tells it to, in one of the two protocols,
 * well formed or not, and checks what comes back. */
#pragma once

#include <nghttp2/nghttp2.h>

#include "rpc/method.h"
#include "rpc/server.h"
#include "rpc/ttrpc.h"
#include "tests/fuzz/fuzz.h"

#define CLIENT_STREAMS 16

struct client {
        struct rpc_server *server;
        bool grpc;
        int fd;         /* -1: closed */
        struct buf out; /* what the next send takes */
        struct {
                uint32_t id;
                const struct rpc_method *method;
                const struct rpc_service *service;
        } streams[CLIENT_STREAMS]; /* the last ones */
        unsigned n;
        uint32_t next_id;
        size_t zeroes; /* of lies: what it may still send */
        /* gRPC */
        nghttp2_hd_deflater *deflater;
        nghttp2_hd_inflater *inflater;
        struct buf in; /* a frame that has not come whole */
        /* ttrpc */
        struct ttrpc_reader reader;
};

/* Connects; the input chooses between small and normal socket buffers, and for gRPC between the
 * usual flow control and none. */
void client_open(struct client *c, struct rpc_server *server, bool grpc, struct input *in);
/* One step of the program. */
void client_step(struct client *c, struct input *in);
/* Reads at most so many bytes and checks them. */
void client_read(struct client *c, size_t n);
void client_close(struct client *c);

/* The whole of a fuzzer with one client. */
void client_fuzz(const uint8_t *data, size_t size, bool grpc);

/* --- for client.c's two halves -------------------------------------------------------------- */

/* A method of the server's services; NULL: none of the last one's. */
const struct rpc_method *client_choose_method(struct input *in, const struct rpc_service **ret);
/* A message for a method, as the input says: its own bytes, or a request with some fields set. */
void client_make_message(struct input *in, const struct rpc_service *service,
                         const struct rpc_method *method, struct buf *ret);
/* A stream that was begun, as an index; a new one when there is none. */
unsigned client_choose_stream(const struct client *c, struct input *in);
unsigned client_add_stream(struct client *c, uint32_t id, const struct rpc_service *service,
                           const struct rpc_method *method);

void client_grpc_open(struct client *c, bool flow_control);
void client_grpc_step(struct client *c, struct input *in);
void client_grpc_check(struct client *c, const uint8_t *bytes, size_t n);
void client_grpc_close(struct client *c);

void client_ttrpc_step(struct client *c, struct input *in);
void client_ttrpc_check(struct client *c, const uint8_t *bytes, size_t n);
