#!/bin/bash
# Where this machine's apt fetches from, for the scripts beside this one that source it. They have
# `die`, and VERSION_CODENAME of /etc/os-release by the time it is called.

updated=
update_once()
{
        [ "$updated" ] || apt-get -q update || die "'apt-get update' failed: see its message above"
        updated=yes
}

# The address of the Debian mirror in this machine's apt configuration.
mirror()
{
        # shellcheck disable=SC2016 # apt's own variables
        apt-get indextargets --format '$(REPO_URI)' \
                'Created-By: Packages' "Codename: $VERSION_CODENAME" 'Component: main' | head -n 1
}

# Sets `uri` to it.
find_mirror()
{
        uri=$(mirror)
        [ "$uri" ] || { update_once && uri=$(mirror); }
        [ "$uri" ] || die "apt's configuration names no mirror for $VERSION_CODENAME main"
}
