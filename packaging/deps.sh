#!/bin/bash
# Installs what building, testing and the demo need, on Debian 12 and 13. Does nothing where all of
# it is there already.
#
# usage: deps.sh DIRECTORY [build|aarch64]
#
# DIRECTORY gets the versions of gVisor's runsc that the distribution itself does not have: r22 is
# Debian 12's, r24 is Debian 13's. They are unpacked there and not installed; each is one static
# program. It gets an ssh server, promtool, an image registry and Docker Engine too, for the tests:
# installed, all of them but promtool would be services of this machine, and promtool brings one; and a
# small Debian of the same version, for tests/system to boot.
# With build only what building, the package and the demo need: some minutes less.
# With aarch64 it gets, instead, the libraries of that machine, for building and running what is made
# for it (arm64/, a root directory of its own: this machine gets no second architecture).
# apt fetches all from the mirror that this machine uses anyway, and checks the signatures.
set -euo pipefail

# What our programs and unit tests are linked with.
libraries=(
        libc6-dev libuv1-dev libprotobuf-c-dev libyaml-dev libnghttp2-dev libjansson-dev
        libsqlite3-dev libsystemd-dev libmicrohttpd-dev libcurl4-openssl-dev libcmocka-dev
)
packages=(
        "${libraries[@]}" build-essential pkgconf
        protobuf-c-compiler protobuf-compiler libprotobuf-dev python3 python3-protobuf
        runc busybox-static debian-archive-keyring
        containernetworking-plugins nftables skopeo umoci
        debhelper
)
test_packages=(
        openssh-client
        clang-format cppcheck shellcheck clang libclang-rt-dev
        python3-grpcio python3-grpc-tools python3-pytest python3-pytest-xdist python3-pexpect
        libgrpc++-dev protobuf-compiler-grpc nghttp2-client socat
        util-linux e2fsprogs faketime
        systemd debootstrap systemd-container
        lintian groff man-db manpages mandoc zsh bash-completion docker-compose python3-yaml
        iproute2 dnsmasq-base musl-tools git
)
host_packages=(
        systemd systemd-sysv dbus runc busybox-static containernetworking-plugins nftables
        libuv1-dev libprotobuf-c-dev libyaml-dev libnghttp2-dev libjansson-dev libsqlite3-dev
        libsystemd-dev libmicrohttpd-dev
)
# Toolchains that are there already, wherever they came from, are left alone.
command -v node >/dev/null || test_packages+=(nodejs)
command -v npm >/dev/null || test_packages+=(npm)

die()
{
        echo "deps: $*" >&2
        exit 1
}

# shellcheck source=/dev/null
. "$(dirname "$0")/mirror.sh"

need_root()
{
        [ "$(id -u)" = 0 ] || die "$* must be fetched with apt-get: run 'sudo make deps'"
}

missing()
{
        local p
        for p in "$@"; do
                [ "$(dpkg-query -Wf '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || echo "$p"
        done
}

install_missing()
{
        local list
        mapfile -t list < <(missing "$@")
        [ ${#list[@]} -gt 0 ] || return 0
        need_root "${list[*]}"
        update_once
        DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "${list[@]}"
}

# private_apt SUITE DIRECTORY ARCHITECTURE: makes `apt` an apt-get with a configuration of its own in
# DIRECTORY, whose packages are those of SUITE; what is installed has no say.
private_apt()
{
        local suite=$1 directory=$2 architecture=$3 uri
        find_mirror
        mkdir -p "$directory/lists/partial" "$directory/cache/archives/partial"
        : >"$directory/status"
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $suite main" \
                >"$directory/sources.list"
        apt=(apt-get -q -o "Dir::Etc::SourceList=$directory/sources.list"
                -o Dir::Etc::SourceParts=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
                -o "Dir::State::Lists=$directory/lists" -o "Dir::Cache=$directory/cache"
                -o "Dir::State::status=$directory/status"
                -o "APT::Architecture=$architecture" -o "APT::Architectures=$architecture"
                -o APT::Default-Release= -o APT::Sandbox::User=root -o Acquire::Languages=none)
        "${apt[@]}" update
}

# fetch SUITE DIRECTORY PACKAGE...: that suite's, unpacked.
fetch()
{
        local suite=$1 directory=$2 tmp apt package
        shift 2
        [ ! -d "$directory" ] || return 0
        need_root "$* of Debian $suite"
        rm -rf "$directory.tmp"
        mkdir -p "$directory.tmp"
        tmp=$(realpath "$directory.tmp")
        private_apt "$suite" "$tmp" "$(dpkg --print-architecture)"
        (cd "$tmp" && "${apt[@]}" download "$@")
        for package in "$tmp"/*.deb; do
                dpkg-deb -x "$package" "$tmp/root"
        done
        mv "$tmp/root" "$directory" # last: what is there is whole
        rm -rf "$tmp"
}

# fetch_libraries ARCHITECTURE DIRECTORY: the libraries, with all that they need, as a root directory.
fetch_libraries()
{
        local architecture=$1 directory=$2 wanted tmp apt package
        wanted="$VERSION_CODENAME ${libraries[*]}"
        [ "$(cat "$directory/fetched" 2>/dev/null)" != "$wanted" ] || return 0
        need_root "the libraries of $architecture"
        rm -rf "$directory" "$directory.tmp"
        mkdir -p "$directory.tmp/root/usr/lib"
        tmp=$(realpath "$directory.tmp")
        ln -s usr/lib "$tmp/root/lib"
        private_apt "$VERSION_CODENAME" "$tmp" "$architecture"
        "${apt[@]}" install -y --download-only --no-install-recommends "${libraries[@]}"
        for package in "$tmp"/cache/archives/*.deb; do
                dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink -C "$tmp/root"
        done
        # Programs, and links to absolute paths, would be taken for this machine's.
        rm -rf "$tmp"/root/{bin,sbin,etc,var,usr/bin,usr/sbin,usr/share}
        echo "$wanted" >"$tmp/root/fetched"
        mv "$tmp/root" "$directory" # last: what is there is whole
        rm -rf "$tmp"
}

# fetch_host DIRECTORY: a small Debian with systemd, for tests/system to boot and to install the
# package in: what that depends on is there. Development packages bear the same names in every Debian,
# and bring the libraries.
fetch_host()
{
        local directory=$1 include uri
        include=$(IFS=, && echo "${host_packages[*]}")
        [ "$(cat "$directory.packages" 2>/dev/null)" != "$VERSION_CODENAME $include" ] || return 0
        need_root "a Debian to boot"
        find_mirror
        rm -rf --one-file-system "$directory" "$directory.tmp"
        # What it mounts goes with it, also when it is interrupted.
        unshare --mount debootstrap --variant=minbase --include="$include" \
                "$VERSION_CODENAME" "$directory.tmp" "$uri" >"$directory.log" ||
                die "a Debian to boot: see $directory.log"
        rm -rf "$directory.tmp"/var/cache/apt/*.bin "$directory.tmp"/var/cache/apt/archives/*.deb
        mv "$directory.tmp" "$directory"
        echo "$VERSION_CODENAME $include" >"$directory.packages" # last: what is there is whole
}

# fetch_npm PROJECT DIRECTORY: a project with the packages it needs, whose hashes its lock file has. No
# script of theirs runs here.
fetch_npm()
{
        local project=$1 directory=$2 wanted
        wanted=$(cat "$project"/package*.json | sha256sum)
        [ "$(cat "$directory.stamp" 2>/dev/null)" != "$wanted" ] || return 0
        rm -rf "$directory" "$directory.tmp"
        mkdir -p "$directory.tmp"
        cp "$project"/package*.json "$directory.tmp"
        npm ci --prefix "$directory.tmp" --ignore-scripts --no-audit --no-fund --loglevel=error
        mv "$directory.tmp" "$directory"
        echo "$wanted" >"$directory.stamp" # last: what is there is whole
}

case $#/${2-} in
1/ | 2/build | 2/aarch64) ;;
*) die "usage: deps.sh DIRECTORY [build|aarch64]" ;;
esac
# shellcheck source=/dev/null
. /etc/os-release
case ${VERSION_CODENAME:-} in
bookworm | trixie) ;;
*) die "knows Debian 12 and 13 only; on ${PRETTY_NAME:-this system} install what corresponds to:" \
        "${packages[*]} ${test_packages[*]} runsc openssh-server" ;;
esac
if [ "${2-}" = aarch64 ]; then
        install_missing gcc-aarch64-linux-gnu
        fetch_libraries arm64 "$1/arm64"
        fetch trixie "$1/qemu" qemu-user # newer than Debian 12's, which lacks openat2
        find "$1/qemu" -type f ! -name qemu-aarch64 -delete # half a gigabyte of other machines
        exit
fi
server=(openssh-server libwrap0) # and what it needs that openssh-client does not
docker=(docker.io containerd tini) # and what they need that `packages` do not
if [ "$VERSION_CODENAME" = trixie ]; then
        packages+=(runsc systemd-dev)
        server+=(libwtmpdb0)
        docker+=(docker-cli)
        command -v go >/dev/null || test_packages+=(golang-go) # Debian 12's is too old for the tests
else
        docker+=(libdevmapper1.02.1)
        fetch trixie "$1/runsc-r24" runsc
fi
if [ "${2-}" = build ]; then
        install_missing "${packages[@]}"
        exit
fi
install_missing "${packages[@]}" "${test_packages[@]}"
fetch bookworm "$1/runsc-r22" runsc
fetch "$VERSION_CODENAME" "$1/openssh-server" "${server[@]}"
fetch_host "$1/host"
fetch "$VERSION_CODENAME" "$1/prometheus" prometheus
find "$1/prometheus" -type f ! -name promtool -delete # the server, which nobody starts here
fetch "$VERSION_CODENAME" "$1/docker-registry" docker-registry # it needs libc only
fetch "$VERSION_CODENAME" "$1/docker" "${docker[@]}"
fetch_npm "$(dirname "$0")/../tests/e2e/vite" "$1/vite"
fetch_npm "$(dirname "$0")/../tests/e2e/agent" "$1/agent" # a coding agent, of 180 MB
