#!/bin/bash
# Builds the peers in Go and in C++, with what protoc generates from echo.proto. What the machine has
# no tools for is left out; bench.py says so.
#
# usage: peers.sh DIRECTORY     DIRECTORY gets go-{grpc,ttrpc}-{server,client}, cpp-grpc-{server,client}
set -euo pipefail

here=$(dirname "$(realpath "$0")")
proto=$(realpath "$here/../../interop/proto")
file=sandboxd/test/v1/echo.proto
mkdir -p "$1"
out=$(realpath "$1")

# The sources are copied first: the generated package has to lie inside the module.
build_go()
{
        local work=$out/go wire side package=M$file=sandboxd/bench/echo
        mkdir -p "$work/bin"
        cp -r "$here/go/." "$work"
        cd "$work"
        go build -o bin google.golang.org/protobuf/cmd/protoc-gen-go \
                google.golang.org/grpc/cmd/protoc-gen-go-grpc \
                github.com/containerd/ttrpc/cmd/protoc-gen-go-ttrpc
        PATH=$work/bin:$PATH protoc -I"$proto" \
                --go_out=. --go_opt=module=sandboxd/bench,"$package" \
                --go-grpc_out=. --go-grpc_opt=module=sandboxd/bench,"$package" \
                --go-ttrpc_out=. --go-ttrpc_opt=module=sandboxd/bench,prefix=TTRPC,"$package" "$file"
        for wire in grpc ttrpc; do
                for side in server client; do
                        go build -o "$out/go-$wire-$side" "./$wire-$side"
                done
        done
}

is_up_to_date()
{
        local source
        for source in "$here"/cpp/*.cc "$proto/$file" "$here/peers.sh"; do
                [ "$1" -nt "$source" ] || return 1
        done
}

build_cpp()
{
        local side
        is_up_to_date "$out/cpp-grpc-client" && return
        mkdir -p "$out/cpp"
        protoc -I"$proto" --cpp_out="$out/cpp" --grpc_out="$out/cpp" \
                --plugin=protoc-gen-grpc="$(command -v grpc_cpp_plugin)" "$file"
        cd "$out/cpp"
        for side in server client; do
                # shellcheck disable=SC2046 # a list
                g++ -O2 -std=c++17 -Wall -Wextra -Werror -I. -o "$out/cpp-grpc-$side" \
                        "$here/cpp/grpc_$side.cc" sandboxd/test/v1/echo.pb.cc \
                        sandboxd/test/v1/echo.grpc.pb.cc $(pkg-config --cflags --libs grpc++ protobuf)
        done
}

if command -v go >/dev/null; then
        (build_go)
fi
if command -v grpc_cpp_plugin >/dev/null && pkg-config --exists grpc++; then
        (build_cpp)
fi
