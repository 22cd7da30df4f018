/* The header fields of gRPC over HTTP/2: those of a request, and the trailers of a response.
 * https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md */
#pragma once

#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "rpc/metadata.h"

#define GRPC_PATH_MAX                                                               \
        256 /* bytes of "/service/method", with its NUL; no method has a longer one \
             */

/* A request's fields as they come. Zeroed at the start. */
struct grpc_headers {
        char path[GRPC_PATH_MAX]; /* "" when it was too long */
        size_t size;              /* of the whole list, as RFC 9113, section 6.5.2 counts it */
        uint64_t timeout_ns;      /* 0: none */
        int64_t content_length;
        unsigned pseudo; /* which pseudo-header fields came */
        bool has_content_length;
        bool regular; /* a field that is none came */
        bool is_post, is_grpc;
        bool compressed; /* grpc-encoding says so */
        bool malformed;  /* RFC 9113, sections 8.1.1 to 8.3 */
        bool metadata_is_bad;
};

/* name and value end in NUL, as nghttp2 promises. What is neither the protocol's own nor malformed
 * goes to the metadata, as long as the list is no larger than max. */
void grpc_headers_add(struct grpc_headers *h, struct rpc_metadata *metadata, size_t max,
                      const uint8_t *name, size_t n_name, const uint8_t *value, size_t n_value);
/* The list has ended: whether what must be there is there. */
bool grpc_headers_are_complete(const struct grpc_headers *h);
/* A field of the request's trailers: whether it may stand there. */
bool grpc_trailer_is_valid(const uint8_t *name, size_t n_name);

nghttp2_nv grpc_header(const char *name, const char *value);

/* The trailers of a response, with room for one of the greatest message and details. */
struct grpc_trailers {
        char status[8], message[3 * ERR_MSG_MAX];
        char *details; /* base64 */
        nghttp2_nv nv[6];
        size_t n;
};

/* details: see rpc_call_finish_with_details. Fields are added after those that there are. */
void grpc_trailers_add(struct grpc_trailers *t, const struct err *e, const uint8_t *details,
                       size_t n_details);
void grpc_trailers_done(struct grpc_trailers *t);
