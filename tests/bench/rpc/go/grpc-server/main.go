// The peer on google.golang.org/grpc. usage: grpc-server SOCKET
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"

	"google.golang.org/grpc"

	"sandboxd/bench/echo"
	"sandboxd/bench/meter"
)

type server struct {
	echo.UnimplementedEchoServiceServer
}

func (server) Unary(_ context.Context, r *echo.EchoServiceUnaryRequest) (*echo.EchoServiceUnaryResponse, error) {
	return &echo.EchoServiceUnaryResponse{Payload: r.Payload}, nil
}

func (server) Count(r *echo.EchoServiceCountRequest, out echo.EchoService_CountServer) error {
	payload := make([]byte, r.Size)
	for i := uint64(0); r.Count == 0 || i < r.Count; i++ {
		if err := out.Send(&echo.EchoServiceCountResponse{Number: i, Payload: payload}); err != nil {
			return err
		}
	}
	return nil
}

func main() {
	listener := meter.Must(net.Listen("unix", os.Args[1]))
	s := grpc.NewServer()
	echo.RegisterEchoServiceServer(s, server{})
	fmt.Println("ready")
	log.Fatal(s.Serve(listener))
}
