/* A gRPC connection to the server: rpc/grpc_wire.c, grpc_headers.c, session.c, call.c, conn.c.
 *
 * input: limits, socket buffers, then steps (client.c, client_grpc.c). */
#include "tests/fuzz/client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        client_fuzz(data, size, true);
        return 0;
}
