#!/bin/bash
# Installs what building, testing and the demo need, on Debian 12 and 13. Does nothing where all of
# it is there already.
#
# usage: deps.sh DIRECTORY
#
# DIRECTORY gets the versions of gVisor's runsc that the distribution itself does not have: r22 is
# Debian 12's, r24 is Debian 13's. They are unpacked there and not installed; each is one static
# program. apt fetches them from the mirror that this machine uses anyway, and checks the signatures.
# It gets a small Debian of the same version too, for tests/system to boot.
set -euo pipefail

packages=(
        gcc libc6-dev make pkg-config
        libuv1-dev libprotobuf-c-dev protobuf-c-compiler protobuf-compiler libprotobuf-dev
        libyaml-dev libnghttp2-dev libjansson-dev libsqlite3-dev libsystemd-dev
        runc busybox-static
        libcmocka-dev clang-format cppcheck shellcheck clang libclang-rt-dev
        python3 python3-protobuf python3-grpcio python3-grpc-tools python3-pytest python3-pexpect
        g++ libgrpc++-dev protobuf-compiler-grpc nghttp2-client socat
        util-linux e2fsprogs faketime debian-archive-keyring
        systemd debootstrap systemd-container
        debhelper dpkg-dev libmicrohttpd-dev
        lintian groff man-db mandoc zsh bash-completion docker-compose python3-yaml
)
host_packages=(
        systemd systemd-sysv dbus runc busybox-static
        libuv1-dev libprotobuf-c-dev libyaml-dev libnghttp2-dev libjansson-dev libsqlite3-dev
        libsystemd-dev libmicrohttpd-dev
)
# Toolchains that are there already, wherever they came from, are left alone.
command -v node >/dev/null || packages+=(nodejs)
command -v npm >/dev/null || packages+=(npm)

die()
{
        echo "deps: $*" >&2
        exit 1
}

need_root()
{
        [ "$(id -u)" = 0 ] || die "$* must be fetched with apt-get: run 'sudo make deps'"
}

updated=
update_once()
{
        [ "$updated" ] || apt-get -q update || die "'apt-get update' failed: see its message above"
        updated=yes
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

# The address of the Debian mirror in this machine's apt configuration.
mirror()
{
        # shellcheck disable=SC2016 # apt's own variables
        apt-get indextargets --format '$(REPO_URI)' \
                'Created-By: Packages' "Codename: $VERSION_CODENAME" 'Component: main' | head -n 1
}

# fetch_runsc SUITE DIRECTORY: that suite's runsc, unpacked, with an apt configuration of its own.
fetch_runsc()
{
        local suite=$1 directory=$2 uri tmp
        [ ! -x "$directory/usr/bin/runsc" ] || return 0
        need_root "runsc of Debian $suite"
        uri=$(mirror)
        [ "$uri" ] || { update_once && uri=$(mirror); }
        [ "$uri" ] || die "apt's configuration names no mirror for $VERSION_CODENAME main"
        rm -rf "$directory" "$directory.tmp"
        mkdir -p "$directory.tmp"
        tmp=$(realpath "$directory.tmp")
        mkdir -p "$tmp/lists/partial" "$tmp/cache/archives/partial"
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $suite main" \
                >"$tmp/sources.list"
        local apt=(apt-get -q -o "Dir::Etc::SourceList=$tmp/sources.list"
                -o Dir::Etc::SourceParts=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
                -o "Dir::State::Lists=$tmp/lists" -o "Dir::Cache=$tmp/cache"
                -o Dir::State::status=/dev/null # what is installed has no say
                -o APT::Default-Release= -o APT::Sandbox::User=root -o Acquire::Languages=none)
        "${apt[@]}" update
        (cd "$tmp" && "${apt[@]}" download runsc)
        dpkg-deb -x "$tmp"/runsc_*.deb "$tmp/package"
        mv "$tmp/package" "$directory" # last: what is there is whole
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
        uri=$(mirror)
        [ "$uri" ] || { update_once && uri=$(mirror); }
        [ "$uri" ] || die "apt's configuration names no mirror for $VERSION_CODENAME main"
        rm -rf "$directory" "$directory.tmp"
        debootstrap --variant=minbase --include="$include" \
                "$VERSION_CODENAME" "$directory.tmp" "$uri" >"$directory.log" ||
                die "a Debian to boot: see $directory.log"
        rm -rf "$directory.tmp"/var/cache/apt/*.bin "$directory.tmp"/var/cache/apt/archives/*.deb
        mv "$directory.tmp" "$directory"
        echo "$VERSION_CODENAME $include" >"$directory.packages" # last: what is there is whole
}

[ $# = 1 ] || die "usage: deps.sh DIRECTORY"
# shellcheck source=/dev/null
. /etc/os-release
case ${VERSION_CODENAME:-} in
bookworm) install_missing "${packages[@]}" ;;
trixie)
        command -v go >/dev/null || packages+=(golang-go) # Debian 12's is too old for the tests
        install_missing "${packages[@]}" runsc systemd-dev
        ;;
*) die "knows Debian 12 and 13 only; on ${PRETTY_NAME:-this system} install what corresponds to:" \
        "${packages[*]} runsc" ;;
esac
fetch_runsc bookworm "$1/runsc-r22"
[ "$VERSION_CODENAME" = trixie ] || fetch_runsc trixie "$1/runsc-r24"
fetch_host "$1/host"
