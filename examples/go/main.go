// Makes a sandbox, runs a command in it, removes it. usage: example [SOCKET]
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pb "example/sandboxdv1"
)

// run prints what the command prints, as it comes, and returns its exit status.
func run(ctx context.Context, processes pb.ProcessServiceClient, sandboxID string, args ...string) (int32, error) {
	events, err := processes.Start(ctx, &pb.ProcessServiceStartRequest{
		SandboxId: sandboxID, Args: args, KillOnDisconnect: true,
	})
	if err != nil {
		return 0, err
	}
	for {
		response, err := events.Recv()
		if err != nil {
			return 0, err
		}
		switch event := response.Event.(type) {
		case *pb.ProcessServiceStartResponse_Data:
			output := os.Stdout
			if event.Data.Stream == pb.OutputStream_OUTPUT_STREAM_STDERR {
				output = os.Stderr
			}
			output.Write(event.Data.Data)
		case *pb.ProcessServiceStartResponse_End:
			return event.End.ExitCode, nil
		}
	}
}

func example(socket string) (err error) {
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	sandboxes, processes := pb.NewSandboxServiceClient(conn), pb.NewProcessServiceClient(conn)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	created, err := sandboxes.Create(ctx, &pb.SandboxServiceCreateRequest{})
	if err != nil {
		return err
	}
	id := created.Sandbox.Id
	fmt.Println("created", id)
	defer func() {
		_, failed := sandboxes.Delete(context.Background(), &pb.SandboxServiceDeleteRequest{SandboxId: id})
		if failed == nil {
			fmt.Println("deleted")
		} else if err == nil {
			err = failed
		}
	}()

	exitCode, err := run(ctx, processes, id, "sh", "-c", "echo to stdout; echo to stderr >&2; exit 3")
	if err != nil {
		return err
	}
	fmt.Println("exit status", exitCode)

	if _, err := sandboxes.Get(ctx, &pb.SandboxServiceGetRequest{SandboxId: "no-such-box"}); err != nil {
		fmt.Printf("%s: %s\n", status.Code(err), status.Convert(err).Message())
	}
	return nil
}

func main() {
	socket := "/run/sandboxd/sandboxd.sock"
	if path, ok := os.LookupEnv("SANDBOXD_SOCKET"); ok {
		socket = path
	}
	if len(os.Args) > 1 {
		socket = os.Args[1]
	}
	if err := example(socket); err != nil {
		log.Fatal(err)
	}
}
