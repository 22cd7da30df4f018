#!/bin/bash
# Builds the clients that the interop tests drive, with what each language's users have. What is there
# already is not built again.
#
# usage: build.sh DIRECTORY
#
# DIRECTORY gets everything that is built; the tools' own caches stay where they are. For each client
# that is left out its file DIRECTORY/NAME.missing tells why.
set -euo pipefail

[ $# = 1 ] || {
        echo "usage: build.sh DIRECTORY" >&2
        exit 2
}
here=$(realpath "$(dirname "$0")")
top=$(realpath "$here/../..")
mkdir -p "$1"
out=$(realpath "$1")
python=${PYTHON:-/usr/bin/python3}
folders=("$here/proto" "$top/proto")
protos=(sandboxd/test/v1/echo.proto grpc/health/v1/health.proto google/rpc/status.proto)
includes=("${folders[@]/#/-I}")
grpcurl=github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.1

# stale [FILE...]: whether what the stamp "$stamp" stands for must be made again.
stale()
{
        [ ! -e "$stamp" ] || [ -n "$(find "$@" "$here/proto" "$top/proto" "$here/build.sh" \
                -type f -newer "$stamp" -print -quit)" ]
}

# leave_out NAME WHY
leave_out()
{
        echo "$2" >"$out/$1.missing"
        echo "interop: $1 is left out: $2"
}

# there NAME TOOL...: whether the tools of a client are; otherwise says what is not.
there()
{
        local name=$1 tool
        shift
        rm -f "$out/$name.missing"
        for tool in "$@"; do
                command -v "$tool" >/dev/null && continue
                leave_out "$name" "no $tool on this machine"
                return 1
        done
}

# recent NAME WANTED FOUND: whether a version is at least what the client's libraries want.
recent()
{
        printf '%s\n' "$2" "$3" | sort -VC && return
        leave_out "$1" "version $3 is older than $2"
        return 1
}

build_python()
{
        local stamp=$out/python/stamp
        stale || return 0
        mkdir -p "$out/python"
        # The package "grpc" is the library's own: the stubs of health.proto go without folders.
        "$python" -m grpc_tools.protoc -I"$here/proto" -I"$top/proto/grpc/health/v1" -I"$top/proto" \
                --python_out="$out/python" --grpc_python_out="$out/python" \
                sandboxd/test/v1/echo.proto health.proto google/rpc/status.proto
        touch "$stamp"
}

build_go()
{
        local go=$out/go stamp=$out/go/stamp m=Msandboxd/test/v1/echo.proto=sandboxd/interop/echo
        stale "$here/go" || return 0
        mkdir -p "$go/echo" "$go/bin"
        cp -r "$here/go/." "$go"
        cd "$go"
        GOBIN=$go/bin go install google.golang.org/protobuf/cmd/protoc-gen-go \
                google.golang.org/grpc/cmd/protoc-gen-go-grpc \
                github.com/containerd/ttrpc/cmd/protoc-gen-go-ttrpc \
                github.com/summerwind/h2spec/cmd/h2spec
        PATH=$go/bin:$PATH protoc -I"$here/proto" --go_out=. --go_opt="$m,module=sandboxd/interop" \
                --go-grpc_out=. --go-grpc_opt="$m,module=sandboxd/interop" --go-ttrpc_out=. \
                --go-ttrpc_opt="$m,module=sandboxd/interop,prefix=TTRPC" sandboxd/test/v1/echo.proto
        go build -o bin/ ./grpc ./ttrpc
        GOBIN=$go/bin go install "$grpcurl" # of the versions in its own go.mod
        touch "$stamp"
}

build_node()
{
        local stamp=$out/node/stamp
        stale "$here/node/package.json" "$here/node/package-lock.json" || return 0
        mkdir -p "$out/node"
        cp "$here"/node/package*.json "$out/node"
        npm ci --prefix "$out/node" --ignore-scripts --no-audit --no-fund --loglevel=error
        touch "$stamp"
}

build_cpp()
{
        local cpp=$out/cpp stamp=$out/cpp/stamp unit
        stale "$here/cpp" || return 0
        mkdir -p "$cpp"
        protoc "${includes[@]}" --cpp_out="$cpp" --grpc_out="$cpp" \
                --plugin=protoc-gen-grpc="$(command -v grpc_cpp_plugin)" "${protos[@]}"
        local units=("$here/cpp/client.cc" "$cpp"/sandboxd/test/v1/echo{,.grpc}.pb.cc
                "$cpp"/grpc/health/v1/health{,.grpc}.pb.cc "$cpp/google/rpc/status.pb.cc")
        # shellcheck disable=SC2016 # the parameters are those of sh
        for unit in "${units[@]}"; do
                printf '%s\0%s\0' "$unit" "$cpp/$(basename "$unit").o"
        done | xargs -0 -n2 -P"$(nproc)" sh -c 'g++ -std=c++17 -Wall -I"$0" -c "$1" -o "$2"' "$cpp"
        # shellcheck disable=SC2046 # several options
        g++ -o "$cpp/client" "$cpp"/*.o $(pkg-config --libs grpc++ protobuf)
        touch "$stamp"
}

build_rust()
{
        local paths
        paths=$(IFS=:; echo "${folders[*]}")
        PROTOS=$paths CARGO_TARGET_DIR=$out/rust cargo build --quiet --locked \
                --manifest-path "$here/rust/Cargo.toml"
}

build_python
if there go go && recent go 1.22 "$(go env GOVERSION | sed 's/^go//')"; then build_go; fi
if there node node npm; then build_node; fi
if there cpp g++ grpc_cpp_plugin; then build_cpp; fi
if there rust cargo && recent rust 1.88 "$(cargo --version | cut -d' ' -f2)"; then build_rust; fi
there h2load h2load || :
there h2spec socat || :
