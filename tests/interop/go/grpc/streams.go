package main

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"

	"sandboxd/interop/check"
	"sandboxd/interop/echo"
)

func (c *client) count(ctx context.Context, request *echo.EchoServiceCountRequest) echo.EchoService_CountClient {
	request.SandboxId = c.Sandbox
	return check.Must(c.echo.Count(ctx, request))
}

// numbered takes so many messages in order.
func numbered(stream echo.EchoService_CountClient, from, to uint64, size int) {
	for i := from; i < to; i++ {
		response := check.Must(stream.Recv())
		check.That(response.Number == i, "message %d instead of %d", response.Number, i)
		check.That(len(response.Payload) == size, "size: %d", len(response.Payload))
	}
}

func stream(c *client) {
	all := c.count(check.InTime(), &echo.EchoServiceCountRequest{Count: 1000, Size: 10})
	numbered(all, 0, 1000, 10)
	_, err := all.Recv()
	end(err)
}

// streamSlow: 64 MiB, through pauses, and other calls on the same connection meanwhile.
func streamSlow(c *client) {
	const size = 64 << 10
	slow := c.count(check.InTime(), &echo.EchoServiceCountRequest{Count: 1024, Size: size})
	for i := uint64(0); i < 8; i++ {
		time.Sleep(50 * time.Millisecond)
		check.Must(c.echo.Unary(check.InTime(), c.request()))
		numbered(slow, i*128, (i+1)*128, size)
	}
	_, err := slow.Recv()
	end(err)
}

func streamError(c *client) {
	failing := c.count(check.InTime(), &echo.EchoServiceCountRequest{
		Count: 10, Ending: &echo.Ending{Code: int32(codes.DataLoss), Message: check.Text},
	})
	numbered(failing, 0, 10, 0)
	_, err := failing.Recv()
	got := code(err, codes.DataLoss)
	check.That(got.Message() == check.Text, "message: %q", got.Message())
}

func streamCancel(c *client) {
	ctx, cancel := context.WithCancel(check.InTime())
	key := check.Key()
	endless := c.count(ctx, &echo.EchoServiceCountRequest{Size: 1000, Key: key})
	numbered(endless, 0, 10, 1000)
	cancel()
	c.awaitSeen(key, "cancelled", check.Cancelled)
	check.Must(c.echo.Unary(check.InTime(), c.request()))
}

func sum(c *client) {
	stream := check.Must(c.echo.Sum(check.InTime()))
	for i := 0; i < 1000; i++ {
		check.OK(stream.Send(&echo.EchoServiceSumRequest{SandboxId: c.Sandbox, Payload: make([]byte, i)}))
	}
	response := check.Must(stream.CloseAndRecv())
	check.That(response.Messages == 1000 && response.Bytes == 999*1000/2, "%v", response)
}

func sumNone(c *client) {
	response := check.Must(check.Must(c.echo.Sum(check.InTime())).CloseAndRecv())
	check.That(response.Messages == 0 && response.Bytes == 0, "%v", response)
}

// sumSlow: 8 MiB to a handler that does not take them at first.
func sumSlow(c *client) {
	stream := check.Must(c.echo.Sum(check.InTime()))
	check.OK(stream.Send(&echo.EchoServiceSumRequest{SandboxId: c.Sandbox, PauseMillis: 500}))
	for i := 0; i < 128; i++ {
		check.OK(stream.Send(&echo.EchoServiceSumRequest{Payload: make([]byte, 64<<10)}))
	}
	response := check.Must(stream.CloseAndRecv())
	check.That(response.Messages == 129 && response.Bytes == 8<<20, "%v", response)
}

func chat(c *client) {
	stream := check.Must(c.echo.Chat(check.InTime()))
	for i := 0; i < 1000; i++ {
		payload := string(rune('a' + i%26))
		check.OK(stream.Send(&echo.EchoServiceChatRequest{SandboxId: c.Sandbox, Payload: []byte(payload)}))
		response := check.Must(stream.Recv())
		check.That(response.Number == uint64(i) && string(response.Payload) == payload, "%d: %v", i, response)
	}
	check.OK(stream.CloseSend())
	_, err := stream.Recv()
	end(err)
}

// chatHalfClose: the answers come although the client's side is closed.
func chatHalfClose(c *client) {
	stream := check.Must(c.echo.Chat(check.InTime()))
	for i := 0; i < 10; i++ {
		check.OK(stream.Send(&echo.EchoServiceChatRequest{SandboxId: c.Sandbox}))
	}
	check.OK(stream.CloseSend())
	for i := uint64(0); i < 10; i++ {
		response := check.Must(stream.Recv())
		check.That(response.Number == i, "%v", response)
	}
	_, err := stream.Recv()
	end(err)
}

// chatError: the server ends the call while the client still sends.
func chatError(c *client) {
	stream := check.Must(c.echo.Chat(check.InTime()))
	check.OK(stream.Send(&echo.EchoServiceChatRequest{SandboxId: c.Sandbox}))
	check.Must(stream.Recv())
	check.OK(stream.Send(&echo.EchoServiceChatRequest{
		Ending: &echo.Ending{Code: int32(codes.OutOfRange), Message: check.Text},
	}))
	_, err := stream.Recv()
	got := code(err, codes.OutOfRange)
	check.That(got.Message() == check.Text, "message: %q", got.Message())
	check.Must(c.echo.Unary(check.InTime(), c.request()))
}

func chatCancel(c *client) {
	ctx, cancel := context.WithCancel(check.InTime())
	key := check.Key()
	stream := check.Must(c.echo.Chat(ctx))
	check.OK(stream.Send(&echo.EchoServiceChatRequest{SandboxId: c.Sandbox, Key: key}))
	check.Must(stream.Recv())
	cancel()
	c.awaitSeen(key, "cancelled", check.Cancelled)
}
