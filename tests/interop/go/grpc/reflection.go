package main

import (
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"google.golang.org/grpc"
	v1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	v1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"

	"sandboxd/interop/check"
)

const service = "sandboxd.test.v1.EchoService"

// described fails unless the files, one of which has the service, have all that they import.
func described(files [][]byte) {
	var have, imported []string
	found := false
	for _, raw := range files {
		var file descriptorpb.FileDescriptorProto
		check.OK(proto.Unmarshal(raw, &file))
		have = append(have, file.GetName())
		imported = append(imported, file.Dependency...)
		for _, one := range file.Service {
			found = found || file.GetPackage()+"."+one.GetName() == service && len(one.Method) == 5
		}
	}
	check.That(found, "no %s in %v", service, have)
	for _, name := range imported {
		check.That(slices.Contains(have, name), "%s is missing of %v", name, have)
	}
}

// reflection in both versions, over one stream each.
func reflection(c *client) {
	reflectionV1(c.conn)
	reflectionV1alpha(c.conn)
}

func reflectionV1(conn *grpc.ClientConn) {
	stream := check.Must(v1.NewServerReflectionClient(conn).ServerReflectionInfo(check.InTime()))
	ask := func(request *v1.ServerReflectionRequest) *v1.ServerReflectionResponse {
		check.OK(stream.Send(request))
		return check.Must(stream.Recv())
	}
	var names []string
	listed := ask(&v1.ServerReflectionRequest{
		MessageRequest: &v1.ServerReflectionRequest_ListServices{ListServices: "*"},
	})
	for _, one := range listed.GetListServicesResponse().GetService() {
		names = append(names, one.Name)
	}
	check.That(slices.Contains(names, service), "services: %v", names)
	described(ask(&v1.ServerReflectionRequest{
		MessageRequest: &v1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: service},
	}).GetFileDescriptorResponse().GetFileDescriptorProto())
	missing := ask(&v1.ServerReflectionRequest{
		MessageRequest: &v1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "no.such.Service"},
	}).GetErrorResponse()
	check.That(missing.GetErrorCode() == 5, "an unknown symbol: %v", missing)
	check.OK(stream.CloseSend())
	_, err := stream.Recv()
	end(err)
}

func reflectionV1alpha(conn *grpc.ClientConn) {
	stream := check.Must(v1alpha.NewServerReflectionClient(conn).ServerReflectionInfo(check.InTime()))
	check.OK(stream.Send(&v1alpha.ServerReflectionRequest{
		MessageRequest: &v1alpha.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: service},
	}))
	described(check.Must(stream.Recv()).GetFileDescriptorResponse().GetFileDescriptorProto())
	check.OK(stream.CloseSend())
	_, err := stream.Recv()
	end(err)
}
