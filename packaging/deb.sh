#!/bin/bash
# Builds the Debian package of this tree, as it is now, in a copy of it.
#
# usage: deb.sh VERSION DIRECTORY
#
# DIRECTORY gets sandboxd_VERSION_*.deb and what belongs to it; what an earlier run left there is
# removed. The same tree and VERSION give the same bytes, wherever they are built.
set -euo pipefail
version=$1 directory=$2
tree=$directory/sandboxd-$version

cd "$(dirname "$0")/.."
rm -rf "$directory"
mkdir -p "$tree"
# Without what was removed and is not committed yet.
git ls-files -z --cached --others --exclude-standard |
        tar --null --files-from=- --ignore-failed-read --create |
        tar -C "$tree" --extract
cp -r "$tree/packaging/debian" "$tree/debian"
sed -i "1s/(.*)/($version)/" "$tree/debian/changelog"

# Nothing of the make that runs this, nor of the user's settings, has a say in what comes out.
log=$directory/build.log
if ! (cd "$tree" && env --ignore-environment PATH="$PATH" HOME="$HOME" \
        DEB_BUILD_OPTIONS="${DEB_BUILD_OPTIONS:-}" dpkg-buildpackage --no-sign -j"$(nproc)") \
        >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        echo "deb: the package was not built; all of the log: $log" >&2
        exit 1
fi
rm -rf "$tree"
ls "$directory"/*.deb
