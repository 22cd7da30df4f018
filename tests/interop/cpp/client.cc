// A client on gRPC C++.
//
// usage: client SOCKET SCENARIO SANDBOX_ID SEEN_SOCKET

#include <chrono>
#include <cstdlib>
#include <functional>
#include <future>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <google/protobuf/util/message_differencer.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include "google/rpc/status.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "sandboxd/test/v1/echo.grpc.pb.h"

namespace pb = sandboxd::test::v1;
namespace hpb = grpc::health::v1;
using namespace std::chrono_literals;
using Clock = std::chrono::system_clock;
using grpc::StatusCode;

constexpr auto patience = 30s;
constexpr size_t message_max = 4 << 20;
constexpr size_t routed_max = 512 << 10; // the largest answer of a sandbox, with its envelope
const std::string text = "früher 100% – 終わり";
const std::string parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#define CHECK(condition, ...) check(condition, __LINE__, #condition, ##__VA_ARGS__)

static void check(bool ok, int line, const char *what, const std::string &more = "")
{
        if (ok)
                return;
        std::cerr << "FAILED: client.cc:" << line << ": " << what << ": " << more << std::endl;
        _exit(1); // without waiting for what is under way
}

#define REFUSED(status, wanted) refused(status, wanted, __LINE__)

static void refused(const grpc::Status &status, StatusCode wanted, int line)
{
        check(status.error_code() == wanted, line, ("code " + std::to_string(wanted)).c_str(),
              std::to_string(status.error_code()) + " " + status.error_message());
}

#define OK(status) refused(status, StatusCode::OK, __LINE__)

struct Context : grpc::ClientContext {
        explicit Context(std::chrono::milliseconds limit = patience)
        {
                set_deadline(Clock::now() + limit);
        }
};

struct Client {
        std::string socket, sandbox;
        std::shared_ptr<grpc::Channel> channel;
        std::unique_ptr<pb::EchoService::Stub> echo, seen;

        static std::shared_ptr<grpc::Channel> dial(const std::string &socket,
                                                   grpc::ChannelArguments args = {})
        {
                args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1); // a connection of its own
                return grpc::CreateCustomChannel("unix:" + socket,
                                                 grpc::InsecureChannelCredentials(), args);
        }

        pb::EchoServiceUnaryRequest request() const
        {
                pb::EchoServiceUnaryRequest r;
                r.set_sandbox_id(sandbox);
                return r;
        }

        pb::EchoServiceChatRequest message() const
        {
                pb::EchoServiceChatRequest r;
                r.set_sandbox_id(sandbox);
                return r;
        }

        grpc::Status unary(const pb::EchoServiceUnaryRequest &request,
                           pb::EchoServiceUnaryResponse *response) const
        {
                Context context;
                return echo->Unary(&context, request, response);
        }

        grpc::Status unary(const pb::EchoServiceUnaryRequest &request) const
        {
                pb::EchoServiceUnaryResponse response;
                return unary(request, &response);
        }

        using Wanted = std::function<bool(const pb::EchoServiceSeenResponse &)>;

        void await_seen(const std::string &key, const char *what, const Wanted &wanted) const
        {
                pb::EchoServiceSeenRequest request;
                pb::EchoServiceSeenResponse response;
                request.set_key(key);
                for (auto end = Clock::now() + 10s;; std::this_thread::sleep_for(10ms)) {
                        Context context;
                        OK(seen->Seen(&context, request, &response));
                        if (wanted(response))
                                return;
                        check(Clock::now() < end, __LINE__, what,
                              "the server never saw it: " + response.ShortDebugString());
                }
        }

        // Whether the server that answers a unary call learns that it was cancelled. Between servers
        // that is ttrpc, which has no word for it: there a deadline, or the connection's end.
        bool cancel_reaches() const
        {
                return sandbox.empty();
        }

        void await_cancelled(const std::string &key) const
        {
                await_seen(key, "cancelled", [](const pb::EchoServiceSeenResponse &s) {
                        return s.cancelled() == 1 && s.finished() == 1;
                });
        }
};

static std::string new_key()
{
        return std::to_string(getpid()) + "-" +
               std::to_string(Clock::now().time_since_epoch().count());
}

// What the callback of a call is, and what waits for it.
struct Call {
        Context context;
        pb::EchoServiceUnaryRequest request;
        pb::EchoServiceUnaryResponse response;
        std::promise<grpc::Status> done;

        void start(pb::EchoService::Stub *stub)
        {
                stub->async()->Unary(&context, &request, &response,
                                     [this](grpc::Status status) { done.set_value(status); });
        }

        grpc::Status wait()
        {
                return done.get_future().get();
        }
};

static void unary(Client &c)
{
        auto request = c.request();
        pb::EchoServiceUnaryResponse response;
        request.set_payload(std::string("\0payload\xff", 9));
        OK(c.unary(request, &response));
        CHECK(response.payload() == request.payload());
        grpc::ClientContext context;
        OK(c.echo->Unary(&context, c.request(), &response));
        CHECK(response.payload().empty() && response.timeout_nanos() == 0);
}

static void metadata(Client &c)
{
        Context context;
        auto request = c.request();
        pb::EchoServiceUnaryResponse response;
        request.set_key(new_key());
        context.AddMetadata("x-plain", "some value");
        context.AddMetadata("x-raw-bin", std::string("\xff\0\x80", 3));
        context.AddMetadata("traceparent", parent);
        OK(c.echo->Unary(&context, request, &response));
        auto got = response.metadata();
        CHECK(got["traceparent"] == parent, response.ShortDebugString());
        if (c.sandbox.empty()) {
                CHECK(got["x-plain"] == "some value", response.ShortDebugString());
                CHECK(got["x-raw-bin"] == "/wCA", response.ShortDebugString()); // as on the wire
        } else { // what may be a secret is not for a sandbox
                CHECK(got.size() == 1, response.ShortDebugString());
        }
        c.await_seen(request.key(), "with its traceparent",
                     [](const pb::EchoServiceSeenResponse &s) { return s.traceparent() == parent; });
}

static void error(Client &c)
{
        auto request = c.request();
        request.mutable_ending()->set_code(StatusCode::FAILED_PRECONDITION);
        request.mutable_ending()->set_message(text);
        auto status = c.unary(request);
        REFUSED(status, StatusCode::FAILED_PRECONDITION);
        CHECK(status.error_message() == text, status.error_message());
}

static void details(Client &c)
{
        auto request = c.request();
        pb::EchoServiceSeenRequest one;
        one.set_key(text);
        request.mutable_ending()->set_code(StatusCode::ABORTED);
        request.mutable_ending()->set_message(text);
        request.mutable_ending()->add_details()->PackFrom(one);
        request.mutable_ending()->add_details()->PackFrom(pb::EchoServiceSumResponse());
        auto status = c.unary(request);
        REFUSED(status, StatusCode::ABORTED);
        CHECK(status.error_message() == text, status.error_message());
        google::rpc::Status got, wanted;
        CHECK(got.ParseFromString(status.error_details()));
        wanted.set_code(StatusCode::ABORTED);
        wanted.set_message(text);
        *wanted.mutable_details() = request.ending().details();
        CHECK(google::protobuf::util::MessageDifferencer::Equals(got, wanted), got.ShortDebugString());
}

static void deadline(Client &c)
{
        auto request = c.request();
        pb::EchoServiceUnaryResponse response;
        request.set_hang(true);
        request.set_key(new_key());
        auto start = Clock::now();
        Context context(300ms);
        REFUSED(c.echo->Unary(&context, request, &response), StatusCode::DEADLINE_EXCEEDED);
        CHECK(Clock::now() - start >= 290ms && Clock::now() - start < 5s);
        c.await_cancelled(request.key());
}

static void timeout(Client &c)
{
        Context context(20s);
        pb::EchoServiceUnaryResponse response;
        OK(c.echo->Unary(&context, c.request(), &response));
        // The library rounds up to a tenth of a second.
        CHECK(response.timeout_nanos() > 10e9 && response.timeout_nanos() <= 20.1e9,
              std::to_string(response.timeout_nanos()));
}

static void cancel(Client &c)
{
        Call call;
        call.request = c.request();
        call.request.set_hang(true);
        call.request.set_key(new_key());
        call.start(c.echo.get());
        c.await_seen(call.request.key(), "start",
                     [](const pb::EchoServiceSeenResponse &s) { return s.started() == 1; });
        call.context.TryCancel();
        REFUSED(call.wait(), StatusCode::CANCELLED);
        if (c.cancel_reaches())
                c.await_cancelled(call.request.key());
        OK(c.unary(c.request()));
}

static pb::EchoServiceCountRequest counting(const Client &c, uint64_t count, uint32_t size)
{
        pb::EchoServiceCountRequest request;
        request.set_sandbox_id(c.sandbox);
        request.set_count(count);
        request.set_size(size);
        return request;
}

static void stream(Client &c)
{
        Context context;
        pb::EchoServiceCountResponse response;
        auto all = c.echo->Count(&context, counting(c, 1000, 10));
        uint64_t expected = 0;
        for (; all->Read(&response); expected++)
                CHECK(response.number() == expected && response.payload().size() == 10);
        OK(all->Finish());
        CHECK(expected == 1000);
}

// 64 MiB, through pauses, and other calls on the same connection meanwhile.
static void stream_slow(Client &c)
{
        Context context;
        pb::EchoServiceCountResponse response;
        auto all = c.echo->Count(&context, counting(c, 1024, 64 << 10));
        uint64_t expected = 0;
        for (; all->Read(&response); expected++) {
                CHECK(response.number() == expected && response.payload().size() == 64 << 10);
                if (expected % 128 == 0) {
                        std::this_thread::sleep_for(50ms);
                        OK(c.unary(c.request()));
                }
        }
        OK(all->Finish());
        CHECK(expected == 1024);
}

static void stream_error(Client &c)
{
        Context context;
        pb::EchoServiceCountResponse response;
        auto request = counting(c, 10, 0);
        request.mutable_ending()->set_code(StatusCode::DATA_LOSS);
        request.mutable_ending()->set_message(text);
        auto failing = c.echo->Count(&context, request);
        uint64_t expected = 0;
        for (; failing->Read(&response); expected++)
                CHECK(response.number() == expected);
        CHECK(expected == 10);
        auto status = failing->Finish();
        REFUSED(status, StatusCode::DATA_LOSS);
        CHECK(status.error_message() == text, status.error_message());
}

static void stream_cancel(Client &c)
{
        Context context;
        pb::EchoServiceCountResponse response;
        auto request = counting(c, 0, 1000);
        request.set_key(new_key());
        auto endless = c.echo->Count(&context, request);
        for (uint64_t i = 0; i < 10; i++)
                CHECK(endless->Read(&response) && response.number() == i);
        context.TryCancel();
        c.await_cancelled(request.key());
        while (endless->Read(&response)) { // what came before
        }
        REFUSED(endless->Finish(), StatusCode::CANCELLED);
        OK(c.unary(c.request()));
}

static void sum(Client &c)
{
        Context context;
        pb::EchoServiceSumResponse response;
        pb::EchoServiceSumRequest request;
        request.set_sandbox_id(c.sandbox);
        auto all = c.echo->Sum(&context, &response);
        for (size_t i = 0; i < 1000; i++) {
                request.set_payload(std::string(i, 'x'));
                CHECK(all->Write(request));
        }
        CHECK(all->WritesDone());
        OK(all->Finish());
        CHECK(response.messages() == 1000 && response.bytes() == 999 * 500, response.ShortDebugString());
}

static void sum_none(Client &c)
{
        Context context;
        pb::EchoServiceSumResponse response;
        auto none = c.echo->Sum(&context, &response);
        CHECK(none->WritesDone());
        OK(none->Finish());
        CHECK(response.messages() == 0 && response.bytes() == 0, response.ShortDebugString());
}

// 8 MiB to a handler that does not take them at first.
static void sum_slow(Client &c)
{
        Context context;
        pb::EchoServiceSumResponse response;
        pb::EchoServiceSumRequest first, other;
        first.set_sandbox_id(c.sandbox);
        first.set_pause_millis(500);
        other.set_payload(std::string(64 << 10, 'x'));
        auto slow = c.echo->Sum(&context, &response);
        CHECK(slow->Write(first));
        for (int i = 0; i < 128; i++)
                CHECK(slow->Write(other));
        CHECK(slow->WritesDone());
        OK(slow->Finish());
        CHECK(response.messages() == 129 && response.bytes() == 8 << 20, response.ShortDebugString());
}

static void chat(Client &c)
{
        Context context;
        pb::EchoServiceChatResponse response;
        auto talk = c.echo->Chat(&context);
        for (uint64_t i = 0; i < 1000; i++) {
                auto message = c.message();
                message.set_payload(std::to_string(i));
                CHECK(talk->Write(message) && talk->Read(&response));
                CHECK(response.number() == i && response.payload() == message.payload());
        }
        CHECK(talk->WritesDone() && !talk->Read(&response));
        OK(talk->Finish());
}

// The answers come although the client's side is closed.
static void chat_half_close(Client &c)
{
        Context context;
        pb::EchoServiceChatResponse response;
        auto talk = c.echo->Chat(&context);
        for (int i = 0; i < 10; i++)
                CHECK(talk->Write(c.message()));
        CHECK(talk->WritesDone());
        for (uint64_t i = 0; i < 10; i++)
                CHECK(talk->Read(&response) && response.number() == i);
        CHECK(!talk->Read(&response));
        OK(talk->Finish());
}

// The server ends the call while the client still sends.
static void chat_error(Client &c)
{
        Context context;
        pb::EchoServiceChatResponse response;
        auto talk = c.echo->Chat(&context);
        CHECK(talk->Write(c.message()) && talk->Read(&response));
        auto message = c.message();
        message.mutable_ending()->set_code(StatusCode::OUT_OF_RANGE);
        message.mutable_ending()->set_message(text);
        CHECK(talk->Write(message) && !talk->Read(&response));
        auto status = talk->Finish();
        REFUSED(status, StatusCode::OUT_OF_RANGE);
        CHECK(status.error_message() == text, status.error_message());
        OK(c.unary(c.request()));
}

static void chat_cancel(Client &c)
{
        Context context;
        pb::EchoServiceChatResponse response;
        auto talk = c.echo->Chat(&context);
        auto message = c.message();
        message.set_key(new_key());
        CHECK(talk->Write(message) && talk->Read(&response));
        context.TryCancel();
        c.await_cancelled(message.key());
        REFUSED(talk->Finish(), StatusCode::CANCELLED);
}

// A request that is so large when serialized.
static pb::EchoServiceUnaryRequest sized(const Client &c, size_t size)
{
        auto request = c.request();
        request.set_response_size(1);
        request.set_payload(std::string(size - 64, 'x'));
        request.set_payload(std::string(2 * size - 64 - request.ByteSizeLong(), 'x'));
        CHECK(request.ByteSizeLong() == size);
        return request;
}

// A call whose answer is so large when serialized. Without a deadline, as that is in the answer.
static grpc::Status answered(const Client &c, size_t size, pb::EchoServiceUnaryResponse *response)
{
        auto request = c.request();
        request.set_response_size(size - 4096);
        grpc::ClientContext first, second;
        OK(c.echo->Unary(&first, request, response));
        request.set_response_size(2 * size - 4096 - response->ByteSizeLong());
        return c.echo->Unary(&second, request, response);
}

static void largest(Client &c)
{
        pb::EchoServiceUnaryResponse response;
        OK(c.unary(sized(c, message_max)));
        OK(answered(c, message_max, &response));
        CHECK(response.ByteSizeLong() == message_max, std::to_string(response.ByteSizeLong()));
}

static void too_large(Client &c)
{
        pb::EchoServiceUnaryResponse response;
        REFUSED(c.unary(sized(c, message_max + 1)), StatusCode::RESOURCE_EXHAUSTED);
        REFUSED(answered(c, message_max + 1, &response), StatusCode::RESOURCE_EXHAUSTED);
        OK(c.unary(c.request()));
}

// Inside, ttrpc's envelope needs some of the 4 MiB, and answers are smaller.
static void routed_limit(Client &c)
{
        pb::EchoServiceUnaryResponse response;
        OK(c.unary(sized(c, message_max - 16384)));
        REFUSED(c.unary(sized(c, message_max)), StatusCode::RESOURCE_EXHAUSTED);
        OK(answered(c, routed_max - 16, &response));
        CHECK(response.ByteSizeLong() == routed_max - 16);
        REFUSED(answered(c, routed_max, &response), StatusCode::RESOURCE_EXHAUSTED);
        OK(c.unary(c.request()));
}

// 1000 calls on one connection that end, then 1000 that are in flight together.
static void concurrent(Client &c)
{
        std::vector<Call> hanging(1000), ending(1000);
        for (size_t i = 0; i < ending.size(); i++) {
                ending[i].request = c.request();
                ending[i].request.set_payload(std::to_string(i));
                ending[i].start(c.echo.get());
        }
        for (auto &call : ending) {
                OK(call.wait());
                CHECK(call.response.payload() == call.request.payload());
        }
        auto key = new_key();
        for (auto &call : hanging) {
                call.request = c.request();
                call.request.set_hang(true);
                call.request.set_key(key);
                call.start(c.echo.get());
        }
        c.await_seen(key, "start 1000 times",
                     [](const pb::EchoServiceSeenResponse &s) { return s.started() == 1000; });
        for (auto &call : hanging)
                call.context.TryCancel();
        for (auto &call : hanging)
                REFUSED(call.wait(), StatusCode::CANCELLED);
        if (c.cancel_reaches())
                c.await_seen(key, "cancelled 1000 times",
                             [](const pb::EchoServiceSeenResponse &s) { return s.cancelled() == 1000; });
        OK(c.unary(c.request()));
}

// 1000 at once, each with a call.
static void connections(Client &c)
{
        std::vector<std::unique_ptr<pb::EchoService::Stub>> stubs;
        for (int i = 0; i < 1000; i++)
                stubs.push_back(pb::EchoService::NewStub(Client::dial(c.socket)));
        for (int round = 0; round < 2; round++) {
                std::vector<Call> calls(stubs.size());
                for (size_t i = 0; i < calls.size(); i++) {
                        calls[i].request = c.request();
                        calls[i].start(stubs[i].get());
                }
                for (auto &call : calls)
                        OK(call.wait());
        }
}

static void unimplemented(Client &c)
{
        grpc::TemplatedGenericStub<pb::EchoServiceUnaryRequest, pb::EchoServiceUnaryResponse> stub(
                c.channel);
        for (auto path : {"/sandboxd.test.v1.EchoService/None", "/no.such.Service/Unary"}) {
                Call call;
                call.request = c.request();
                stub.UnaryCall(&call.context, path, {}, &call.request, &call.response,
                               [&call](grpc::Status status) { call.done.set_value(status); });
                REFUSED(call.wait(), StatusCode::UNIMPLEMENTED);
        }
        OK(c.unary(c.request()));
}

static void compressed(Client &c)
{
        Context context;
        pb::EchoServiceUnaryResponse response;
        auto request = c.request();
        request.set_payload(std::string(10000, 'x'));
        context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
        auto status = c.echo->Unary(&context, request, &response);
        REFUSED(status, StatusCode::UNIMPLEMENTED);
        CHECK(status.error_message().find("identity") != std::string::npos, status.error_message());
        OK(c.unary(c.request()));
}

// Ten pings in two seconds while a call is in flight, and some without.
static void keepalive(Client &c)
{
        grpc::ChannelArguments args;
        args.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 200);
        args.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 1000);
        args.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
        args.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
        c.echo = pb::EchoService::NewStub(Client::dial(c.socket, args));
        Context context(2s);
        pb::EchoServiceUnaryResponse response;
        auto request = c.request();
        request.set_hang(true);
        REFUSED(c.echo->Unary(&context, request, &response), StatusCode::DEADLINE_EXCEEDED);
        std::this_thread::sleep_for(500ms);
        OK(c.unary(c.request()));
}

static void health(Client &c)
{
        auto stub = hpb::Health::NewStub(c.channel);
        auto watched = [&](const hpb::HealthCheckRequest &request) {
                Context context;
                hpb::HealthCheckResponse response;
                auto watch = stub->Watch(&context, request);
                CHECK(watch->Read(&response));
                context.TryCancel();
                REFUSED(watch->Finish(), StatusCode::CANCELLED);
                return response.status();
        };
        hpb::HealthCheckRequest request;
        hpb::HealthCheckResponse response;
        for (auto service : {"", "sandboxd.test.v1.EchoService"}) {
                Context context;
                request.set_service(service);
                OK(stub->Check(&context, request, &response));
                CHECK(response.status() == hpb::HealthCheckResponse::SERVING);
                CHECK(watched(request) == hpb::HealthCheckResponse::SERVING);
        }
        Context context;
        request.set_service("no.such.Service");
        REFUSED(stub->Check(&context, request, &response), StatusCode::NOT_FOUND);
        CHECK(watched(request) == hpb::HealthCheckResponse::SERVICE_UNKNOWN);
}

// A stream is under way when the server is told to stop.
static void shutdown(Client &c)
{
        Context context;
        pb::EchoServiceChatResponse response;
        auto talk = c.echo->Chat(&context);
        CHECK(talk->Write(c.message()) && talk->Read(&response));
        std::cout << "under way" << std::endl;
        std::string line;
        CHECK(bool(std::getline(std::cin, line)));
        // For a moment the server may still take a call that crosses its GOAWAY.
        grpc::Status status;
        for (auto end = Clock::now() + 5s; status.ok() && Clock::now() < end;) {
                status = c.unary(c.request());
                std::this_thread::sleep_for(10ms);
        }
        REFUSED(status, StatusCode::UNAVAILABLE);
        CHECK(talk->Write(c.message()) && talk->Read(&response));
        CHECK(talk->WritesDone() && !talk->Read(&response));
        OK(talk->Finish());
}

int main(int argc, char **argv)
{
        const std::map<std::string, void (*)(Client &)> scenarios = {
                {"unary", unary},
                {"metadata", metadata},
                {"error", error},
                {"details", details},
                {"deadline", deadline},
                {"timeout", timeout},
                {"cancel", cancel},
                {"stream", stream},
                {"stream_slow", stream_slow},
                {"stream_error", stream_error},
                {"stream_cancel", stream_cancel},
                {"sum", sum},
                {"sum_none", sum_none},
                {"sum_slow", sum_slow},
                {"chat", chat},
                {"chat_half_close", chat_half_close},
                {"chat_error", chat_error},
                {"chat_cancel", chat_cancel},
                {"largest", largest},
                {"too_large", too_large},
                {"routed_limit", routed_limit},
                {"concurrent", concurrent},
                {"connections", connections},
                {"unimplemented", unimplemented},
                {"compressed", compressed},
                {"keepalive", keepalive},
                {"health", health},
                {"shutdown", shutdown},
        };
        if (argc != 5 || !scenarios.count(argv[2])) {
                std::cerr << "usage: client SOCKET SCENARIO SANDBOX_ID SEEN_SOCKET\nscenarios:";
                for (auto &scenario : scenarios)
                        std::cerr << ' ' << scenario.first;
                std::cerr << std::endl;
                return 2;
        }
        Client c{argv[1], argv[3], Client::dial(argv[1]), nullptr, nullptr};
        c.echo = pb::EchoService::NewStub(c.channel);
        c.seen = pb::EchoService::NewStub(Client::dial(argv[4]));
        scenarios.at(argv[2])(c);
        return 0;
}
