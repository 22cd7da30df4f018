#!/bin/bash
# Builds an example, with the stubs made from proto/.
#
# usage: build.sh LANGUAGE DIRECTORY
#
# LANGUAGE is the name of a folder here. DIRECTORY gets everything that is built; what is there
# already is not built again. Prints the command that runs the example, to which the path of the
# daemon's socket may be added.
set -euo pipefail

here=$(realpath "$(dirname "$0")")
if [ $# != 2 ] || [ ! -d "$here/$1" ]; then
        echo "usage: build.sh LANGUAGE DIRECTORY" >&2
        exit 2
fi
proto=$here/../proto
protos=(sandboxd/v1/{sandbox,process}.proto)
mkdir -p "$2"
out=$(realpath "$2")

build_python()
{
        local python=${PYTHON:-python3}
        mkdir -p "$out/python"
        "$python" -m grpc_tools.protoc -I"$proto" --python_out="$out/python" \
                --grpc_python_out="$out/python" "${protos[@]}" >&2
        echo "env PYTHONPATH=$out/python $python $here/python/example.py"
}

build_node()
{
        mkdir -p "$out/node"
        if ! cmp -s "$here/node/package-lock.json" "$out/node/package-lock.json"; then
                cp "$here"/node/package*.json "$out/node"
                npm ci --prefix "$out/node" --ignore-scripts --no-audit --no-fund >&2 || {
                        rm "$out/node/package-lock.json" # not done
                        exit 1
                }
        fi
        echo "env NODE_PATH=$out/node/node_modules node $here/node/example.js"
}

build_go()
{
        local go=$out/go options=() p
        mkdir -p "$go"
        cp "$here"/go/{main.go,go.mod,go.sum} "$go"
        cd "$go"
        [ -x bin/protoc-gen-go ] ||
                GOBIN=$go/bin go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.0 >&2
        [ -x bin/protoc-gen-go-grpc ] ||
                GOBIN=$go/bin go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.3.0 >&2
        for p in "${protos[@]}"; do # which Go package holds what is made of it
                options+=("--go_opt=M$p=example/sandboxdv1" "--go-grpc_opt=M$p=example/sandboxdv1")
        done
        PATH=$go/bin:$PATH protoc -I"$proto" --go_out=. --go_opt=module=example --go-grpc_out=. \
                --go-grpc_opt=module=example "${options[@]}" "${protos[@]}" >&2
        go build -o example . >&2
        echo "$go/example"
}

build_rust()
{
        cargo build --quiet --locked --manifest-path "$here/rust/Cargo.toml" \
                --target-dir "$out/rust" >&2
        echo "$out/rust/debug/example"
}

build_grpcurl()
{
        [ -x "$out/bin/grpcurl" ] ||
                GOBIN=$out/bin go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.1 >&2
        echo "env PATH=$out/bin:$PATH $here/grpcurl/example.sh"
}

"build_$1"
