// Package meter reads the arguments of a client and prints what it measured: the Go side of
// tests/bench/rpc/common.h, which says what both are.
package meter

import (
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const PayloadSize = 64

type Options struct {
	Socket, SandboxID string
	Mode              string // unary, stream, idle
	Seconds           float64
	N                 int // calls in flight, bytes of a message, or connections
}

func number[T any](parse func(string) (T, error), s string) T {
	v, err := parse(s)
	if err != nil {
		log.Fatal(err)
	}
	return v
}

func Parse() Options {
	args := os.Args
	if len(args) == 4 && args[2] == "idle" {
		return Options{Socket: args[1], Mode: args[2], N: number(strconv.Atoi, args[3])}
	}
	if len(args) < 5 {
		log.Fatal("usage: see tests/bench/rpc/common.h")
	}
	seconds := number(func(s string) (float64, error) { return strconv.ParseFloat(s, 64) }, args[3])
	o := Options{Socket: args[1], Mode: args[2], Seconds: seconds, N: number(strconv.Atoi, args[4])}
	if len(args) > 5 {
		o.SandboxID = args[5]
	}
	return o
}

func Must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

// Unary keeps so many calls in flight, each by a goroutine of its own.
func Unary(o Options, call func() error) {
	var calls, counted atomic.Int64
	var samples []time.Duration
	if o.N == 1 {
		samples = make([]time.Duration, 0, 1<<20)
	}
	start := time.Now()
	total := time.Duration(o.Seconds * float64(time.Second))
	warm, end := start.Add(total/5), start.Add(total)

	var wg sync.WaitGroup
	for range o.N {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for before := time.Now(); before.Before(end); {
				if err := call(); err != nil {
					log.Fatal(err)
				}
				after := time.Now()
				calls.Add(1)
				if before.After(warm) {
					counted.Add(1)
					if samples != nil {
						samples = append(samples, after.Sub(before))
					}
				}
				before = after
			}
		}()
	}
	wg.Wait()
	n, took := counted.Load(), time.Since(warm)
	print(calls.Load(), n, n*PayloadSize, took, samples)
}

// Stream calls next, which takes a message, until the time is over.
func Stream(o Options, next func() (bytes int, err error)) {
	var calls, counted, bytes int64
	total := time.Duration(o.Seconds * float64(time.Second))
	warm := time.Now().Add(total / 5)
	end := warm.Add(total * 4 / 5)
	now := time.Now()
	for now.Before(end) {
		n, err := next()
		if err != nil {
			log.Fatal(err)
		}
		calls++
		if now.After(warm) {
			counted++
			bytes += int64(n)
		}
		now = time.Now()
	}
	print(calls, counted, bytes, now.Sub(warm), nil)
}

// Idle opens the connections, and holds them until stdin ends.
func Idle(o Options, connect func() (call func() error)) {
	var held []func() error
	for range o.N {
		call := connect()
		if err := call(); err != nil {
			log.Fatal(err)
		}
		held = append(held, call)
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	_ = held[0]
}

func print(calls, counted, bytes int64, took time.Duration, samples []time.Duration) {
	if counted == 0 {
		log.Fatal("not one call was counted")
	}
	fmt.Printf(`{"calls": %d, "rate": %.1f, "bytes_rate": %.1f`, calls,
		float64(counted)/took.Seconds(), float64(bytes)/took.Seconds())
	if len(samples) > 0 {
		slices.Sort(samples)
		fmt.Printf(`, "p50": %.3f, "p99": %.3f`, float64(samples[len(samples)/2])/1e3,
			float64(samples[len(samples)*99/100])/1e3)
	}
	fmt.Println("}")
}
