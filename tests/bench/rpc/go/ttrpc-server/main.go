// The peer on containerd's ttrpc. usage: ttrpc-server SOCKET
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"

	"github.com/containerd/ttrpc"

	"sandboxd/bench/echo"
	"sandboxd/bench/meter"
)

// Embeds what is not served: nobody calls it.
type server struct {
	echo.TTRPCEchoServiceService
}

func (server) Unary(_ context.Context, r *echo.EchoServiceUnaryRequest) (*echo.EchoServiceUnaryResponse, error) {
	return &echo.EchoServiceUnaryResponse{Payload: r.Payload}, nil
}

func (server) Count(_ context.Context, r *echo.EchoServiceCountRequest, out echo.TTRPCEchoService_CountServer) error {
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
	s := meter.Must(ttrpc.NewServer())
	echo.RegisterTTRPCEchoServiceService(s, server{})
	fmt.Println("ready")
	log.Fatal(s.Serve(context.Background(), listener))
}
