/* A ttrpc connection to the server: rpc/ttrpc_wire.c, session.c, call.c, conn.c.
 *
 * input: limits, socket buffers, then steps (client.c, client_ttrpc.c). */
#include "tests/fuzz/client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        client_fuzz(data, size, false);
        return 0;
}
