#!/bin/bash
# Makes an image to work in: this machine's Debian with a shell, git, a C compiler, Python, Node and
# npm, as a root file system and as an archive of it.
#
# usage: image-dev.sh DIRECTORY ARCHIVE
#
# DIRECTORY is the root file system; it is made anew when this script or the version of Debian is
# another than those that made it (DIRECTORY.stamp), and to have newer packages remove it. ARCHIVE is a
# tar file of it: the same packages give the same bytes. Each is made beside its place and renamed.
# debootstrap fetches the packages from the mirror that apt uses anyway, and checks the signatures; npm
# comes from the registry that this machine's npm uses, and is the very version named here.
set -euo pipefail
umask 022

packages=(
        bash ca-certificates coreutils curl git openssh-client less procps jq ripgrep xz-utils unzip
        build-essential python3 python3-venv python3-pip nodejs
)
# Debian's own npm brings 400 packages along. This one runs on the node of Debian 12 and of 13.
npm=npm@10.9.9
npm_sha512=d60fba8cb42f688b81e33c2f1cbef2ad7b977166700ec0ad057f1b6d60ea6ef2524abf673e20c35931cd8305d1dbb8887134d6eefdc0e7b8435bd458bf65b862

die()
{
        echo "image-dev: $*" >&2
        exit 1
}

# shellcheck source=/dev/null
. "$(dirname "$0")/mirror.sh"

# The sandbox's user, and what else every sandbox needs of an image (daemon/image.c).
add_sandbox()
{
        local root=$1
        echo 'sandbox:x:1000:1000:sandbox:/home/sandbox:/bin/bash' >>"$root/etc/passwd"
        echo 'sandbox:*:19000:0:99999:7:::' >>"$root/etc/shadow"
        echo 'sandbox:x:1000:' >>"$root/etc/group"
        echo 'sandbox:!::' >>"$root/etc/gshadow"
        mkdir -p "$root/home/sandbox" "$root/run/sandboxd/runtimed"
        chown 1000:1000 "$root/home/sandbox"
        chmod 1777 "$root/tmp"
        # debootstrap copies this machine's.
        rm -f "$root"/etc/{resolv.conf,hostname,hosts}
        : >"$root/etc/resolv.conf"
        echo sandbox >"$root/etc/hostname"
        printf '127.0.0.1 localhost sandbox\n::1 localhost sandbox\n' >"$root/etc/hosts"
        echo 'LANG=C.UTF-8' >"$root/etc/default/locale"
        # Nobody is root in a sandbox, but with `--rootfs overlay` its user owns what is root's.
        echo force-not-root >"$root/etc/dpkg/dpkg.cfg.d/sandbox"
}

# What a fresh workspace begins with.
add_skeleton()
{
        local skel=$1/opt/sandbox-skel
        mkdir -p "$skel"
        cat >"$skel/.profile" <<'END'
export LANG=C.UTF-8
export PATH="$HOME/.local/bin:$PATH"
END
        # / is read-only, as a rule: `npm install -g` has its place in the workspace.
        echo "prefix=\${HOME}/.local" >"$skel/.npmrc"
        cat >"$skel/.gitconfig" <<'END'
[user]
	name = sandbox
	email = sandbox@localhost
[init]
	defaultBranch = main
END
        chown -R 1000:1000 "$skel"
}

add_npm()
{
        local root=$1 modules=$1/usr/lib/node_modules tarball
        # Packed, not installed: no script of the package runs here.
        tarball=$(cd "$root/.." && npm pack --silent --ignore-scripts "$npm") ||
                die "cannot fetch $npm: see 'npm config get registry'"
        tarball=$root/../$tarball
        echo "$npm_sha512  $tarball" | sha512sum --check --quiet ||
                die "what the registry has for $npm is not what it should be"
        mkdir -p "$modules/npm"
        tar -xzf "$tarball" -C "$modules/npm" --strip-components=1 --no-same-owner
        rm -rf "$tarball" "$modules"/npm/{docs,man}
        ln -s ../lib/node_modules/npm/bin/npm-cli.js "$root/usr/bin/npm"
        ln -s ../lib/node_modules/npm/bin/npx-cli.js "$root/usr/bin/npx"
}

# What nobody needs in a sandbox, and what would differ from one time to the next.
trim()
{
        local root=$1
        find "$root/usr/share/doc" ! -type d ! -name copyright -delete
        find "$root/usr/share/doc" -type d -empty -delete
        rm -rf "$root"/usr/share/{info,lintian,locale,man}/* "$root"/var/lib/apt/lists/* \
                "$root"/var/cache/{apt,debconf,ldconfig}/* "$root"/var/lib/dpkg/*-old \
                "$root"/etc/{passwd-,group-,shadow-,gshadow-}
        find "$root/var/log" -type f -delete
        : >"$root/etc/machine-id"
        # The sandbox has a /dev of its own, and gains no rights by a file's mode.
        find "$root/dev" -mindepth 1 -delete
        find "$root" -xdev -type f -perm /6000 -exec chmod ug-s {} +
}

# make_root DIRECTORY STAMP
make_root()
{
        local directory=$1 stamp=$2 tmp=$1.tmp include uri
        find_mirror
        include=$(IFS=, && echo "${packages[*]}")
        rm -rf --one-file-system "$directory" "$tmp"
        rm -f "$directory.stamp"
        mkdir -p "$tmp"
        # What it mounts goes with it, also when it is interrupted.
        unshare --mount debootstrap --variant=minbase --include="$include" \
                "$VERSION_CODENAME" "$tmp/root" "$uri" >"$directory.log" 2>&1 ||
                die "debootstrap failed: see $directory.log"
        chmod 755 "$tmp/root"
        # The archive's date is that of the distribution's index, so what is newer was made here.
        date +%s --date="$(sed -n 's/^Date: //p' "$tmp"/root/var/lib/apt/lists/*Release | head -n 1)" \
                >"$tmp/date"
        add_npm "$tmp/root"
        trim "$tmp/root"
        add_sandbox "$tmp/root"
        add_skeleton "$tmp/root"
        find "$tmp/root" -newermt "@$(cat "$tmp/date")" \
                -exec touch --no-dereference --date="@$(cat "$tmp/date")" {} +
        mv "$tmp/root" "$directory"
        rm -rf --one-file-system "$tmp"
        echo "$stamp" >"$directory.stamp" # last: what is there is whole
}

make_archive()
{
        mkdir -p "$(dirname "$2")"
        tar --create --file="$2.tmp" --directory="$1" --sort=name --format=gnu --numeric-owner .
        mv "$2.tmp" "$2"
}

[ $# = 2 ] || die "usage: image-dev.sh DIRECTORY ARCHIVE"
# shellcheck source=/dev/null
. /etc/os-release
case ${VERSION_CODENAME:-} in
bookworm | trixie) ;;
*) die "knows Debian 12 and 13 only; this is ${PRETTY_NAME:-another system}" ;;
esac
directory=$(realpath -m "$1") archive=$(realpath -m "$2")
stamp="$VERSION_CODENAME $(sha256sum <"$0")"
if [ "$(cat "$directory.stamp" 2>/dev/null)" != "$stamp" ]; then
        [ "$(id -u)" = 0 ] || die "a root file system has files of root: run 'sudo make image-dev'"
        for program in debootstrap npm; do
                command -v "$program" >/dev/null || die "$program is missing: run 'sudo make deps'"
        done
        make_root "$directory" "$stamp"
fi
# Same second or older: it may be of the one before.
[ "$archive" -nt "$directory.stamp" ] || make_archive "$directory" "$archive"
cat <<END
$(du -sh --apparent-size "$directory" | cut -f 1) in $directory, archive: $archive
An administrator's sandbox of it:    sandboxctl create --image $directory
For everybody, as the image 'dev':   sandboxctl image import dev $archive
END
