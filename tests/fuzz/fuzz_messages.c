/* Every request of the public API and every response that a sandbox may send, from arbitrary
 * bytes: protowire.c, arena.c and protobuf-c.
 *
 * input: which message, budget of the arena, bytes. */
#include <string.h>

#include "base/str.h"
#include "base/util.h"
#include "echo_methods.h"
#include "google/rpc/status.pb-c.h"
#include "methods.h"
#include "rpc/arena.h"
#include "rpc/protowire.h"
#include "rpc/ttrpc.h"
#include "tests/fuzz/fuzz.h"

static const ProtobufCMessageDescriptor *choose_type(size_t i)
{
        static const struct rpc_service *const services[] = {
                &sandbox_service,       &process_service,
                &task_service,          &host_service,
                &control_service,       &echo_service,
                &grpc_health_v1_health, &grpc_reflection_v1_server_reflection};
        static const ProtobufCMessageDescriptor *const envelopes[] = {
                &ttrpc__request__descriptor, &ttrpc__response__descriptor,
                &google__rpc__status__descriptor};
        size_t n = ARRAY_SIZE(envelopes);

        for (size_t s = 0; s < ARRAY_SIZE(services); s++)
                n += 2 * services[s]->n_methods;
        i %= n;
        if (i < ARRAY_SIZE(envelopes))
                return envelopes[i];
        i -= ARRAY_SIZE(envelopes);
        for (size_t s = 0; s < ARRAY_SIZE(services); s++) {
                if (i < 2 * services[s]->n_methods)
                        return i % 2 ? services[s]->methods[i / 2].response
                                     : services[s]->methods[i / 2].request;
                i -= 2 * services[s]->n_methods;
        }
        abort();
}

/* A decoded message can be written, and what was written is valid and means the same. */
static void check_message(const ProtobufCMessage *message)
{
        size_t n = protobuf_c_message_get_packed_size(message);
        uint8_t *bytes = malloc(n + !n);
        bool exhausted;
        struct arena arena;

        EXPECT(bytes && protobuf_c_message_pack(message, bytes) == n);
        EXPECT(protowire_is_valid(message->descriptor, bytes, n));
        arena_init(&arena, SIZE_MAX);
        ProtobufCMessage *again = arena_unpack(&arena, message->descriptor, bytes, n, &exhausted);
        EXPECT(again && protobuf_c_message_get_packed_size(again) == n);
        arena_done(&arena);
        free(bytes);
}

static void check_find(const uint8_t *bytes, size_t n, bool valid)
{
        const uint8_t *value;
        size_t n_value;

        for (uint32_t number = 0; number < 4; number++) {
                bool found = protowire_find(bytes, n, number, &value, &n_value);
                EXPECT(found || !valid);
                EXPECT(!value || (value >= bytes && value + n_value <= bytes + n));
                EXPECT(value || n_value == 0);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct input in = {.p = data, .n = size};
        const ProtobufCMessageDescriptor *type = choose_type(take_u8(&in));
        static const size_t budgets[] = {16 * MiB, 1024, 64 * KiB};
        size_t budget = budgets[take_u8(&in) % ARRAY_SIZE(budgets)];
        struct arena arena;
        bool exhausted;

        arena_init(&arena, budget);
        bool valid = protowire_is_valid(type, in.p, in.n);
        ProtobufCMessage *message = arena_unpack(&arena, type, in.p, in.n, &exhausted);
        EXPECT(!message || valid);
        EXPECT(arena.used <= budget);
        EXPECT(!(message && exhausted));
        if (message)
                check_message(message);
        check_find(in.p, in.n, valid);
        arena_done(&arena);
        return 0;
}
