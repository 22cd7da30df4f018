// The client of gRPC C++: its synchronous interface for one call at a time and for the stream, its
// callback interface for many in flight. Arguments: see tests/bench/rpc/common.h
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "sandboxd/test/v1/echo.grpc.pb.h"

namespace echo = sandboxd::test::v1;
using Clock = std::chrono::steady_clock;
using Stub = echo::EchoService::Stub;

constexpr size_t payload_size = 64;

struct Options {
    std::string socket, mode, sandbox_id;
    double seconds = 0;
    unsigned n = 0;
};

static void check(const grpc::Status &status)
{
    if (status.ok())
        return;
    std::fprintf(stderr, "the call failed: %s\n", status.error_message().c_str());
    std::exit(1);
}

static std::unique_ptr<Stub> connect(const Options &o, int number = 0)
{
    grpc::ChannelArguments arguments;
    // Channels with the same arguments would share one connection.
    arguments.SetInt("bench.number", number);
    arguments.SetMaxReceiveMessageSize(-1);
    return echo::EchoService::NewStub(grpc::CreateCustomChannel(
        "unix:" + o.socket, grpc::InsecureChannelCredentials(), arguments));
}

static echo::EchoServiceUnaryRequest unary_request(const Options &o)
{
    echo::EchoServiceUnaryRequest request;
    request.set_sandbox_id(o.sandbox_id);
    request.set_payload(std::string(payload_size, '\1'));
    return request;
}

struct Window {
    explicit Window(double seconds)
        : warm(Clock::now() + std::chrono::nanoseconds(int64_t(seconds * 2e8))),
          end(warm + std::chrono::nanoseconds(int64_t(seconds * 8e8)))
    {
    }
    const Clock::time_point warm, end;
};

static void print(uint64_t calls, uint64_t counted, uint64_t bytes, Clock::duration took,
                  std::vector<double> samples)
{
    double seconds = std::chrono::duration<double>(took).count();
    if (counted == 0) {
        std::fprintf(stderr, "not one call was counted\n");
        std::exit(1);
    }
    std::printf("{\"calls\": %llu, \"rate\": %.1f, \"bytes_rate\": %.1f", (unsigned long long)calls,
                double(counted) / seconds, double(bytes) / seconds);
    if (!samples.empty()) {
        std::sort(samples.begin(), samples.end());
        std::printf(", \"p50\": %.3f, \"p99\": %.3f", samples[samples.size() / 2],
                    samples[samples.size() * 99 / 100]);
    }
    std::printf("}\n");
}

static void one_at_a_time(const Options &o)
{
    auto stub = connect(o);
    const auto request = unary_request(o);
    std::vector<double> samples;
    uint64_t calls = 0;
    samples.reserve(1 << 20);
    Window window(o.seconds);

    for (auto before = Clock::now(); before < window.end; calls++) {
        grpc::ClientContext context;
        echo::EchoServiceUnaryResponse response;
        check(stub->Unary(&context, request, &response));
        auto after = Clock::now();
        if (before >= window.warm)
            samples.push_back(std::chrono::duration<double, std::micro>(after - before).count());
        before = after;
    }
    print(calls, samples.size(), samples.size() * payload_size, Clock::now() - window.warm, samples);
}

// Each of them starts its next call when the last has ended.
class InFlight {
  public:
    explicit InFlight(const Options &o)
        : stub_(connect(o)), request_(unary_request(o)), window_(o.seconds), left_(o.n)
    {
        for (unsigned i = 0; i < o.n; i++)
            Start(new Call);
    }
    void Finish()
    {
        std::unique_lock<std::mutex> lock(mutex_);
        done_.wait(lock, [this] { return left_ == 0; });
        print(calls_, counted_, counted_ * payload_size, Clock::now() - window_.warm, {});
    }

  private:
    struct Call {
        std::unique_ptr<grpc::ClientContext> context;
        echo::EchoServiceUnaryResponse response;
    };

    void Start(Call *call)
    {
        call->context = std::make_unique<grpc::ClientContext>();
        auto before = Clock::now();
        stub_->async()->Unary(call->context.get(), &request_, &call->response,
                              [this, call, before](const grpc::Status &status) {
                                  check(status);
                                  End(call, before);
                              });
    }
    void End(Call *call, Clock::time_point before)
    {
        calls_++;
        if (before >= window_.warm)
            counted_++;
        if (Clock::now() < window_.end) {
            Start(call);
            return;
        }
        delete call;
        std::lock_guard<std::mutex> lock(mutex_);
        if (--left_ == 0)
            done_.notify_one();
    }

    std::unique_ptr<Stub> stub_;
    const echo::EchoServiceUnaryRequest request_;
    const Window window_;
    std::atomic<uint64_t> calls_{0}, counted_{0};
    std::mutex mutex_;
    std::condition_variable done_;
    unsigned left_;
};

static void stream(const Options &o)
{
    auto stub = connect(o);
    grpc::ClientContext context;
    echo::EchoServiceCountRequest request;
    echo::EchoServiceCountResponse response;
    uint64_t calls = 0, counted = 0, bytes = 0;

    request.set_sandbox_id(o.sandbox_id);
    request.set_size(o.n);
    auto reader = stub->Count(&context, request);
    Window window(o.seconds);
    auto now = Clock::now();
    for (; now < window.end && reader->Read(&response); calls++) {
        if (now >= window.warm) {
            counted++;
            bytes += response.payload().size();
        }
        now = Clock::now();
    }
    print(calls, counted, bytes, now - window.warm, {});
    context.TryCancel();
    (void)reader->Finish();
}

static void idle(const Options &o)
{
    std::vector<std::unique_ptr<Stub>> stubs;
    const auto request = unary_request(o);

    for (unsigned i = 0; i < o.n; i++) {
        grpc::ClientContext context;
        echo::EchoServiceUnaryResponse response;
        stubs.push_back(connect(o, int(i)));
        check(stubs.back()->Unary(&context, request, &response));
    }
    std::puts("ready");
    std::fflush(stdout);
    while (std::getchar() != EOF)
        ;
}

int main(int argc, char **argv)
{
    if (argc < 4 || (std::string(argv[2]) != "idle" && argc < 5)) {
        std::fprintf(stderr, "usage: see tests/bench/rpc/common.h\n");
        return 2;
    }
    Options o;
    o.socket = argv[1];
    o.mode = argv[2];
    if (o.mode == "idle") {
        o.n = unsigned(std::stoul(argv[3]));
        idle(o);
        return 0;
    }
    o.seconds = std::stod(argv[3]);
    o.n = unsigned(std::stoul(argv[4]));
    if (argc > 5)
        o.sandbox_id = argv[5];
    if (o.mode == "stream")
        stream(o);
    else if (o.n == 1)
        one_at_a_time(o);
    else
        InFlight(o).Finish();
}
