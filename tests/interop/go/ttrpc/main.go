// A client on github.com/containerd/ttrpc.
package main

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sandboxd/interop/check"
	"sandboxd/interop/echo"
)

type client struct {
	check.Args
	ttrpc *ttrpc.Client
	echo  echo.TTRPCEchoServiceClient
	seen  echo.TTRPCEchoServiceClient
}

func dial(socket string) *ttrpc.Client {
	for {
		conn, err := net.Dial("unix", socket)
		var full interface{ Temporary() bool }
		if errors.As(err, &full) && full.Temporary() {
			time.Sleep(time.Millisecond) // the backlog is full
			continue
		}
		return ttrpc.NewClient(check.Must(conn, err))
	}
}

func connect(args check.Args) *client {
	ttrpc := dial(args.Socket)
	return &client{
		Args:  args,
		ttrpc: ttrpc,
		echo:  echo.NewTTRPCEchoServiceClient(ttrpc),
		seen:  echo.NewTTRPCEchoServiceClient(dial(args.Seen)),
	}
}

func (c *client) request() *echo.EchoServiceUnaryRequest {
	return &echo.EchoServiceUnaryRequest{SandboxId: c.Sandbox}
}

func (c *client) awaitSeen(key, what string, wanted func(*echo.EchoServiceSeenResponse) bool) {
	check.AwaitSeen(c.seen.Seen, key, what, wanted)
}

// code fails unless the error has the code; returns its status.
func code(err error, wanted codes.Code) *status.Status {
	got := status.Convert(err)
	check.That(got.Code() == wanted, "%v instead of %v: %v", got.Code(), wanted, err)
	return got
}

func end(err error) {
	check.That(errors.Is(err, io.EOF), "%v instead of the end", err)
}

func main() {
	// Not compressed, health, keepalive: ttrpc has nothing of the kind.
	scenarios := map[string]func(*client){
		"unary": unary, "metadata": metadata, "error": failure, "details": details,
		"deadline": deadline, "timeout": timeout, "cancel": cancel,
		"stream": stream, "stream_slow": streamSlow, "stream_error": streamError,
		"stream_cancel": streamCancel,
		"sum":           sum, "sum_none": sumNone, "sum_slow": sumSlow,
		"chat": chat, "chat_half_close": chatHalfClose, "chat_error": chatError,
		"chat_cancel": chatCancel,
		"largest":     largest, "too_large": tooLarge, "routed_limit": routedLimit, "concurrent": concurrent,
		"unimplemented": unimplemented, "shutdown": shutdown,
	}
	all := map[string]func(check.Args){"connections": connections}
	for name, scenario := range scenarios {
		all[name] = func(args check.Args) { scenario(connect(args)) }
	}
	check.Main(all)
}

// shutdown: a stream is under way when the server is told to stop. ttrpc has no GOAWAY: what tells
// the client is that there is nothing to connect to any more.
func shutdown(c *client) {
	chat := check.Must(c.echo.Chat(context.Background()))
	exchange := func() {
		check.OK(chat.Send(&echo.EchoServiceChatRequest{SandboxId: c.Sandbox}))
		check.Must(chat.Recv())
	}
	exchange()
	check.Sync("under way")
	limit := time.Now().Add(5 * time.Second)
	for {
		conn, err := net.Dial("unix", c.Socket)
		if err != nil {
			break
		}
		conn.Close()
		check.That(time.Now().Before(limit), "new connections are still taken")
		time.Sleep(10 * time.Millisecond)
	}
	exchange()
	check.OK(chat.CloseSend())
	_, err := chat.Recv()
	end(err)
}
