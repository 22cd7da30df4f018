// The client of containerd's ttrpc. Arguments: see tests/bench/rpc/common.h
package main

import (
	"context"
	"net"

	"github.com/containerd/ttrpc"

	"sandboxd/bench/echo"
	"sandboxd/bench/meter"
)

func connect(o meter.Options) echo.TTRPCEchoServiceClient {
	return echo.NewTTRPCEchoServiceClient(ttrpc.NewClient(meter.Must(net.Dial("unix", o.Socket))))
}

func caller(c echo.TTRPCEchoServiceClient, o meter.Options) func() error {
	request := &echo.EchoServiceUnaryRequest{SandboxId: o.SandboxID, Payload: make([]byte, meter.PayloadSize)}
	return func() error {
		_, err := c.Unary(context.Background(), request)
		return err
	}
}

func main() {
	o := meter.Parse()
	switch o.Mode {
	case "unary":
		meter.Unary(o, caller(connect(o), o))
	case "stream":
		request := &echo.EchoServiceCountRequest{SandboxId: o.SandboxID, Size: uint32(o.N)}
		stream := meter.Must(connect(o).Count(context.Background(), request))
		meter.Stream(o, func() (int, error) {
			r, err := stream.Recv()
			return len(r.GetPayload()), err
		})
	case "idle":
		meter.Idle(o, func() func() error { return caller(connect(o), o) })
	}
}
