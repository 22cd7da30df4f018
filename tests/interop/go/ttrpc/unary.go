package main

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
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
	ctx := ttrpc.WithMetadata(check.InTime(), ttrpc.MD{
		"x-plain": {"some value"}, "traceparent": {parent},
	})
	request := c.request()
	request.Key = check.Key()
	got := check.Must(c.echo.Unary(ctx, request)).Metadata
	check.That(got["traceparent"] == parent, "metadata: %v", got)
	if c.Sandbox == "" {
		check.That(got["x-plain"] == "some value", "metadata: %v", got)
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
	// The library's own clock, or the server's answer.
	if !errors.Is(err, context.DeadlineExceeded) {
		code(err, codes.DeadlineExceeded)
	}
	took := time.Since(start)
	check.That(took >= 290*time.Millisecond && took < 5*time.Second, "after %v", took)
	c.awaitSeen(request.Key, "cancelled", check.Cancelled)
	check.Must(c.echo.Unary(check.InTime(), c.request()))
}

func timeout(c *client) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	left := time.Duration(check.Must(c.echo.Unary(ctx, c.request())).TimeoutNanos)
	check.That(left > 10*time.Second && left <= 20*time.Second, "left: %v", left)
}

// cancel: only the end of the connection reaches the server.
func cancel(c *client) {
	request := c.request()
	request.Hang, request.Key = true, check.Key()
	done := make(chan error)
	go func() {
		_, err := c.echo.Unary(context.Background(), request)
		done <- err
	}()
	c.awaitSeen(request.Key, "start", check.Started)
	check.OK(c.ttrpc.Close())
	err := <-done
	check.That(errors.Is(err, ttrpc.ErrClosed), "%v", err)
	if c.CancelReaches() {
		c.awaitSeen(request.Key, "cancelled", check.Cancelled)
	}
}

// full is a request that makes its frame as large as a frame may be.
func (c *client) full() *echo.EchoServiceUnaryRequest {
	request := c.request()
	request.ResponseSize = 1
	frame := func() int {
		payload := check.Must(proto.Marshal(request))
		return proto.Size(&ttrpc.Request{
			Service: "sandboxd.test.v1.EchoService", Method: "Unary", Payload: payload,
		})
	}
	request.Payload = make([]byte, check.MessageMax-1024)
	request.Payload = make([]byte, len(request.Payload)+check.MessageMax-frame())
	check.That(frame() == check.MessageMax, "frame: %d", frame())
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

func (c *client) answer(size int) {
	response := check.Must(c.echo.Unary(context.Background(), c.answered(size)))
	check.That(proto.Size(response) == size, "answer: %d", proto.Size(response))
}

// largest: the envelope of the answer is a key and the length, for which the server leaves 6 bytes.
func largest(c *client) {
	check.Must(c.echo.Unary(context.Background(), c.full()))
	c.answer(check.MessageMax - 6)
}

// tooLarge is an answer. The library sends no such request.
func tooLarge(c *client) {
	_, err := c.echo.Unary(context.Background(), c.answered(check.MessageMax-4))
	code(err, codes.ResourceExhausted)
	check.Must(c.echo.Unary(check.InTime(), c.request()))
}

// routedLimit: a request that carries no deadline and no metadata is passed on as large as it is.
func routedLimit(c *client) {
	check.Must(c.echo.Unary(context.Background(), c.full()))
	c.answer(check.RoutedMax - 16)
	_, err := c.echo.Unary(context.Background(), c.answered(check.RoutedMax))
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

	key := check.Key()
	var hanging sync.WaitGroup
	for i := 0; i < calls; i++ {
		hanging.Add(1)
		go func() {
			defer hanging.Done()
			request := c.request()
			request.Hang, request.Key = true, key
			_, err := c.echo.Unary(context.Background(), request)
			check.That(err != nil, "a call that hangs was answered")
		}()
	}
	c.awaitSeen(key, "start 1000 times", func(seen *echo.EchoServiceSeenResponse) bool {
		return seen.Started == calls
	})
	check.OK(c.ttrpc.Close())
	hanging.Wait()
	if c.CancelReaches() {
		c.awaitSeen(key, "cancelled 1000 times", func(seen *echo.EchoServiceSeenResponse) bool {
			return seen.Cancelled == calls
		})
	}
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
			client := echo.NewTTRPCEchoServiceClient(conn)
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
	for _, service := range []string{"sandboxd.test.v1.EchoService", "no.such.Service"} {
		err := c.ttrpc.Call(check.InTime(), service, "None", c.request(), &echo.EchoServiceUnaryResponse{})
		code(err, codes.Unimplemented)
	}
	check.Must(c.echo.Unary(check.InTime(), c.request()))
}
