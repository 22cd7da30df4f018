package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/health/grpc_health_v1"
	grpcmetadata "google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"sandboxd/interop/check"
	"sandboxd/interop/echo"
)

func unary(c *client) {
	request := c.request()
	request.Payload = []byte("\x00payload\xff")
	response := check.Must(c.echo.Unary(check.InTime(), request))
	check.That(bytes.Equal(response.Payload, request.Payload), "payload: %q", response.Payload)
	response = check.Must(c.echo.Unary(context.Background(), c.request()))
	check.That(len(response.Payload) == 0, "payload: %q", response.Payload)
	check.That(response.TimeoutNanos == 0, "a deadline that nobody set: %d", response.TimeoutNanos)
}

func metadata(c *client) {
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	ctx := grpcmetadata.AppendToOutgoingContext(check.InTime(), "x-plain", "some value",
		"x-raw-bin", "\xff\x00\x80", "traceparent", parent)
	request := c.request()
	request.Key = check.Key()
	got := check.Must(c.echo.Unary(ctx, request)).Metadata
	check.That(got["traceparent"] == parent, "metadata: %v", got)
	if c.Sandbox == "" {
		check.That(got["x-plain"] == "some value", "metadata: %v", got)
		// As on the wire: base64, padded or not.
		raw := base64.RawStdEncoding.EncodeToString([]byte("\xff\x00\x80"))
		check.That(strings.TrimRight(got["x-raw-bin"], "=") == raw, "metadata: %v", got)
	} else { // what may be a secret is not for a sandbox
		check.That(len(got) == 1, "metadata: %v", got)
	}
	c.awaitSeen(request.Key, "with its traceparent", func(seen *echo.EchoServiceSeenResponse) bool {
		return seen.Traceparent == parent
	})
}

func failure(c *client) {
	request := c.request()
	request.Ending = &echo.Ending{Code: int32(codes.FailedPrecondition), Message: check.Text}
	_, err := c.echo.Unary(check.InTime(), request)
	got := code(err, codes.FailedPrecondition)
	check.That(got.Message() == check.Text, "message: %q", got.Message())
}

func details(c *client) {
	first := &echo.EchoServiceSeenRequest{Key: check.Text}
	second := &echo.EchoServiceSumResponse{Messages: 7}
	request := c.request()
	request.Ending = &echo.Ending{
		Code:    int32(codes.Aborted),
		Message: check.Text,
		Details: []*anypb.Any{check.Must(anypb.New(first)), check.Must(anypb.New(second))},
	}
	_, err := c.echo.Unary(check.InTime(), request)
	got := code(err, codes.Aborted)
	check.That(got.Message() == check.Text, "message: %q", got.Message())
	all := got.Details()
	check.That(len(all) == 2 && proto.Equal(all[0].(proto.Message), first) &&
		proto.Equal(all[1].(proto.Message), second), "details: %v", all)
}

func deadline(c *client) {
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	request := c.request()
	request.Hang, request.Key = true, check.Key()
	start := time.Now()
	_, err := c.echo.Unary(ctx, request)
	code(err, codes.DeadlineExceeded)
	took := time.Since(start)
	check.That(took >= 290*time.Millisecond && took < 5*time.Second, "after %v", took)
	c.awaitSeen(request.Key, "cancelled", check.Cancelled)
}

func timeout(c *client) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	left := time.Duration(check.Must(c.echo.Unary(ctx, c.request())).TimeoutNanos)
	check.That(left > 10*time.Second && left <= 20*time.Second, "left: %v", left)
}

func cancel(c *client) {
	ctx, cancel := context.WithCancel(check.InTime())
	request := c.request()
	request.Hang, request.Key = true, check.Key()
	done := make(chan error)
	go func() {
		_, err := c.echo.Unary(ctx, request)
		done <- err
	}()
	c.awaitSeen(request.Key, "start", check.Started)
	cancel()
	code(<-done, codes.Canceled)
	if c.CancelReaches() {
		c.awaitSeen(request.Key, "cancelled", check.Cancelled)
	}
	// The connection lives on.
	check.Must(c.echo.Unary(check.InTime(), c.request()))
}

// sized is a request that is so large when serialized.
func (c *client) sized(size int) *echo.EchoServiceUnaryRequest {
	request := c.request()
	request.ResponseSize = 1
	request.Payload = make([]byte, size-64)
	request.Payload = make([]byte, size-64+size-proto.Size(request))
	check.That(proto.Size(request) == size, "size: %d", proto.Size(request))
	return request
}

// answered is a request whose answer is so large when serialized.
func (c *client) answered(size int) *echo.EchoServiceUnaryRequest {
	request := c.request()
	request.ResponseSize = uint32(size - 4096)
	response := check.Must(c.echo.Unary(context.Background(), request))
	request.ResponseSize += uint32(size - proto.Size(response))
	return request
}

func largest(c *client) {
	check.Must(c.echo.Unary(context.Background(), c.sized(check.MessageMax)))
	response := check.Must(c.echo.Unary(context.Background(), c.answered(check.MessageMax)))
	check.That(proto.Size(response) == check.MessageMax, "answer: %d", proto.Size(response))
}

func tooLarge(c *client) {
	_, err := c.echo.Unary(check.InTime(), c.sized(check.MessageMax+1))
	code(err, codes.ResourceExhausted)
	_, err = c.echo.Unary(context.Background(), c.answered(check.MessageMax+1))
	code(err, codes.ResourceExhausted)
	check.Must(c.echo.Unary(check.InTime(), c.request()))
}

// routedLimit: inside, ttrpc's envelope needs some of the 4 MiB, and answers are smaller.
func routedLimit(c *client) {
	check.Must(c.echo.Unary(check.InTime(), c.sized(check.MessageMax-16384)))
	_, err := c.echo.Unary(check.InTime(), c.sized(check.MessageMax))
	code(err, codes.ResourceExhausted)
	response := check.Must(c.echo.Unary(context.Background(), c.answered(check.RoutedMax-16)))
	check.That(proto.Size(response) == check.RoutedMax-16, "answer: %d", proto.Size(response))
	_, err = c.echo.Unary(context.Background(), c.answered(check.RoutedMax))
	code(err, codes.ResourceExhausted)
	check.Must(c.echo.Unary(check.InTime(), c.request()))
}

// concurrent: 1000 calls on one connection that end, then 1000 that are in flight together.
func concurrent(c *client) {
	const calls = 1000
	var ending sync.WaitGroup
	for i := 0; i < calls; i++ {
		ending.Add(1)
		go func(number byte) {
			defer ending.Done()
			request := c.request()
			request.Payload = bytes.Repeat([]byte{number}, 100)
			response := check.Must(c.echo.Unary(check.InTime(), request))
			check.That(bytes.Equal(response.Payload, request.Payload), "another call's answer")
		}(byte(i))
	}
	ending.Wait()

	ctx, cancel := context.WithCancel(check.InTime())
	key := check.Key()
	var hanging sync.WaitGroup
	for i := 0; i < calls; i++ {
		hanging.Add(1)
		go func() {
			defer hanging.Done()
			request := c.request()
			request.Hang, request.Key = true, key
			_, err := c.echo.Unary(ctx, request)
			code(err, codes.Canceled)
		}()
	}
	c.awaitSeen(key, "start 1000 times", func(seen *echo.EchoServiceSeenResponse) bool {
		return seen.Started == calls
	})
	cancel()
	hanging.Wait()
	if c.CancelReaches() {
		c.awaitSeen(key, "cancelled 1000 times", func(seen *echo.EchoServiceSeenResponse) bool {
			return seen.Cancelled == calls
		})
	}
	check.Must(c.echo.Unary(check.InTime(), c.request()))
}

// connections: 1000 at once, each with a call.
func connections(args check.Args) {
	const count = 1000
	var ready, done sync.WaitGroup
	all := make(chan struct{})
	ready.Add(count)
	done.Add(count)
	for i := 0; i < count; i++ {
		go func() {
			defer done.Done()
			conn := dial(args.Socket)
			defer conn.Close()
			client := echo.NewEchoServiceClient(conn)
			request := &echo.EchoServiceUnaryRequest{SandboxId: args.Sandbox}
			check.Must(client.Unary(check.InTime(), request))
			ready.Done()
			<-all
			check.Must(client.Unary(check.InTime(), request))
		}()
	}
	ready.Wait()
	close(all)
	done.Wait()
}

func unimplemented(c *client) {
	for _, method := range []string{"/sandboxd.test.v1.EchoService/None", "/no.such.Service/Unary"} {
		err := c.conn.Invoke(check.InTime(), method, c.request(), &echo.EchoServiceUnaryResponse{})
		code(err, codes.Unimplemented)
	}
	check.Must(c.echo.Unary(check.InTime(), c.request()))
}

func compressed(c *client) {
	request := c.request()
	request.Payload = make([]byte, 10000)
	_, err := c.echo.Unary(check.InTime(), request, grpc.UseCompressor(gzip.Name))
	got := code(err, codes.Unimplemented)
	check.That(strings.Contains(got.Message(), "identity"), "message: %q", got.Message())
	check.Must(c.echo.Unary(check.InTime(), c.request()))
}

func health(c *client) {
	client := grpc_health_v1.NewHealthClient(c.conn)
	for _, service := range []string{"", "sandboxd.test.v1.EchoService"} {
		request := &grpc_health_v1.HealthCheckRequest{Service: service}
		response := check.Must(client.Check(check.InTime(), request))
		check.That(response.Status == grpc_health_v1.HealthCheckResponse_SERVING, "%v", response)
		watch := check.Must(client.Watch(check.InTime(), request))
		response = check.Must(watch.Recv())
		check.That(response.Status == grpc_health_v1.HealthCheckResponse_SERVING, "%v", response)
	}
	request := &grpc_health_v1.HealthCheckRequest{Service: "no.such.Service"}
	_, err := client.Check(check.InTime(), request)
	code(err, codes.NotFound)
	response := check.Must(check.Must(client.Watch(check.InTime(), request)).Recv())
	check.That(response.Status == grpc_health_v1.HealthCheckResponse_SERVICE_UNKNOWN, "%v", response)
}
