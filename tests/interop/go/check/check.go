// Package check is what the Go clients share: arguments, assertions, waiting.
package check

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"sort"
	"strings"
	"time"

	"sandboxd/interop/echo"
)

// Patience bounds every call that is meant to succeed.
const Patience = 30 * time.Second

// MessageMax is the largest message: 4 MiB.
const MessageMax = 4 << 20

// RoutedMax is the largest answer of a sandbox, with its envelope.
const RoutedMax = 512 << 10

// Text goes through messages of errors: not ASCII, and with what gRPC must escape.
const Text = "früher 100% – 終わり"

// Args are the program's: SOCKET SCENARIO SANDBOX_ID SEEN_SOCKET.
type Args struct {
	// Socket is the server's; Seen that of the server which gets the calls in the end.
	Socket, Seen string
	// Sandbox is empty for direct calls.
	Sandbox string
}

// Main runs the scenario that the arguments name.
func Main(scenarios map[string]func(Args)) {
	if len(os.Args) != 5 || scenarios[os.Args[2]] == nil {
		names := make([]string, 0, len(scenarios))
		for name := range scenarios {
			names = append(names, name)
		}
		sort.Strings(names)
		Fail("usage: %s SOCKET SCENARIO SANDBOX_ID SEEN_SOCKET\nscenarios: %s", os.Args[0],
			strings.Join(names, " "))
	}
	scenarios[os.Args[2]](Args{Socket: os.Args[1], Sandbox: os.Args[3], Seen: os.Args[4]})
}

// Fail ends the program.
func Fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "FAILED: "+format+"\n", args...)
	os.Exit(1)
}

// That fails unless ok.
func That(ok bool, format string, args ...any) {
	if !ok {
		Fail(format, args...)
	}
}

// OK fails on an error.
func OK(err error) {
	if err != nil {
		Fail("%v", err)
	}
}

// Must returns the value of a call that may not fail.
func Must[T any](value T, err error) T {
	OK(err)
	return value
}

// InTime is a context for what is meant to succeed.
func InTime() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	time.AfterFunc(Patience, cancel)
	return ctx
}

// Key is one that no other call bears.
func Key() string {
	return fmt.Sprintf("%d-%d", os.Getpid(), time.Now().UnixNano())
}

// CancelReaches tells whether the server that answers a unary call learns that it was cancelled.
// Between servers that is ttrpc, which has no word for it: there a deadline, or the connection's end.
func (a Args) CancelReaches() bool { return a.Sandbox == "" }

// SeenFunc asks a server.
type SeenFunc func(context.Context, *echo.EchoServiceSeenRequest) (*echo.EchoServiceSeenResponse, error)

// AwaitSeen asks what became of the calls that bore the key until it is as wanted.
func AwaitSeen(ask SeenFunc, key, what string, wanted func(*echo.EchoServiceSeenResponse) bool) {
	end := time.Now().Add(10 * time.Second)
	for {
		seen := Must(ask(InTime(), &echo.EchoServiceSeenRequest{Key: key}))
		if wanted(seen) {
			return
		}
		That(time.Now().Before(end), "the server never saw the call %s: %v", what, seen)
		time.Sleep(10 * time.Millisecond)
	}
}

// Started is wanted when a call must have reached its handler.
func Started(seen *echo.EchoServiceSeenResponse) bool { return seen.Started == 1 }

// Cancelled is wanted when a call must have been cancelled.
func Cancelled(seen *echo.EchoServiceSeenResponse) bool {
	return seen.Cancelled == 1 && seen.Finished == 1
}

// Sync tells the test how far the program is, and waits until the test has done its part.
func Sync(state string) {
	fmt.Println(state)
	_, err := bufio.NewReader(os.Stdin).ReadString('\n')
	OK(err)
}
