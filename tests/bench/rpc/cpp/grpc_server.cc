// The peer on gRPC C++, by its callback interface. usage: grpc_server SOCKET
#include <grpcpp/grpcpp.h>

#include <cstdio>
#include <string>

#include "sandboxd/test/v1/echo.grpc.pb.h"

namespace echo = sandboxd::test::v1;

class CountWriter : public grpc::ServerWriteReactor<echo::EchoServiceCountResponse> {
  public:
    explicit CountWriter(const echo::EchoServiceCountRequest &request) : count_(request.count())
    {
        response_.set_payload(std::string(request.size(), '\0'));
        Next();
    }
    void OnWriteDone(bool ok) override
    {
        if (ok)
            Next();
        else
            Finish(grpc::Status::CANCELLED);
    }
    void OnDone() override { delete this; }

  private:
    void Next()
    {
        if (count_ != 0 && number_ == count_) {
            Finish(grpc::Status::OK);
            return;
        }
        response_.set_number(number_++);
        StartWrite(&response_);
    }

    const uint64_t count_;
    uint64_t number_ = 0;
    echo::EchoServiceCountResponse response_;
};

class Service final : public echo::EchoService::CallbackService {
    grpc::ServerUnaryReactor *Unary(grpc::CallbackServerContext *context,
                                    const echo::EchoServiceUnaryRequest *request,
                                    echo::EchoServiceUnaryResponse *response) override
    {
        auto *reactor = context->DefaultReactor();
        response->set_payload(request->payload());
        reactor->Finish(grpc::Status::OK);
        return reactor;
    }
    grpc::ServerWriteReactor<echo::EchoServiceCountResponse> *
    Count(grpc::CallbackServerContext *, const echo::EchoServiceCountRequest *request) override
    {
        return new CountWriter(*request);
    }
};

int main(int argc, char **argv)
{
    if (argc != 2) {
        std::fprintf(stderr, "usage: grpc_server SOCKET\n");
        return 2;
    }
    Service service;
    grpc::ServerBuilder builder;
    builder.AddListeningPort(std::string("unix:") + argv[1], grpc::InsecureServerCredentials());
    builder.RegisterService(&service);
    auto server = builder.BuildAndStart();
    if (!server)
        return 1;
    std::puts("ready");
    std::fflush(stdout);
    server->Wait();
}
