// A client on google.golang.org/grpc.
package main

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"sandboxd/interop/check"
	"sandboxd/interop/echo"
)

type client struct {
	check.Args
	conn *grpc.ClientConn
	echo echo.EchoServiceClient
	seen echo.EchoServiceClient
}

func dial(socket string, options ...grpc.DialOption) *grpc.ClientConn {
	options = append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))
	return check.Must(grpc.NewClient("unix:"+socket, options...))
}

func connect(args check.Args, options ...grpc.DialOption) *client {
	conn := dial(args.Socket, options...)
	return &client{
		Args: args,
		conn: conn,
		echo: echo.NewEchoServiceClient(conn),
		seen: echo.NewEchoServiceClient(dial(args.Seen)),
	}
}

func (c *client) request() *echo.EchoServiceUnaryRequest {
	return &echo.EchoServiceUnaryRequest{SandboxId: c.Sandbox}
}

func (c *client) awaitSeen(key, what string, wanted func(*echo.EchoServiceSeenResponse) bool) {
	ask := func(ctx context.Context, r *echo.EchoServiceSeenRequest) (*echo.EchoServiceSeenResponse, error) {
		return c.seen.Seen(ctx, r)
	}
	check.AwaitSeen(ask, key, what, wanted)
}

// code fails unless the error has the code; returns its status.
func code(err error, wanted codes.Code) *status.Status {
	got := status.Convert(err)
	check.That(got.Code() == wanted, "%v instead of %v: %s", got.Code(), wanted, got.Message())
	return got
}

func end(err error) {
	check.That(errors.Is(err, io.EOF), "%v instead of the end", err)
}

func main() {
	scenarios := map[string]func(*client){
		"unary": unary, "metadata": metadata, "error": failure, "details": details,
		"deadline": deadline, "timeout": timeout, "cancel": cancel,
		"stream": stream, "stream_slow": streamSlow, "stream_error": streamError,
		"stream_cancel": streamCancel,
		"sum":           sum, "sum_none": sumNone, "sum_slow": sumSlow,
		"chat": chat, "chat_half_close": chatHalfClose, "chat_error": chatError,
		"chat_cancel": chatCancel,
		"largest":     largest, "too_large": tooLarge, "routed_limit": routedLimit,
		"concurrent": concurrent, "unimplemented": unimplemented, "compressed": compressed,
		"health": health, "reflection": reflection, "shutdown": shutdown,
	}
	// Not keepalive: the library sends its first ping after 10 seconds, whatever it is told.
	all := map[string]func(check.Args){"connections": connections}
	for name, scenario := range scenarios {
		all[name] = func(args check.Args) { scenario(connect(args)) }
	}
	check.Main(all)
}

// shutdown: a stream is under way when the server is told to stop.
func shutdown(c *client) {
	chat := check.Must(c.echo.Chat(check.InTime()))
	exchange := func() {
		check.OK(chat.Send(&echo.EchoServiceChatRequest{SandboxId: c.Sandbox}))
		check.Must(chat.Recv())
	}
	exchange()
	check.Sync("under way")
	// For a moment the server may still take a call that crosses its GOAWAY.
	limit := time.Now().Add(5 * time.Second)
	for {
		_, err := c.echo.Unary(check.InTime(), c.request())
		if err != nil {
			code(err, codes.Unavailable)
			break
		}
		check.That(time.Now().Before(limit), "new calls are still taken")
		time.Sleep(10 * time.Millisecond)
	}
	exchange()
	check.OK(chat.CloseSend())
	_, err := chat.Recv()
	end(err)
}
