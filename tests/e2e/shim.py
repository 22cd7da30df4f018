"""A program in front of a runtime, or of a tool of the host's, which makes trouble where it is told
to."""

import os
from pathlib import Path

from harness import find_runtime, processes, runtimes

# The verb is the first word that is no option. The one that hangs is a child, which keeps the
# output open and does not listen to SIGTERM: whoever gives up on it must end all of it.
SCRIPT = """#!/bin/sh
for verb; do case $verb in -*) ;; *) break ;; esac; done
trouble=none
for name in "$verb" all; do
        if [ -e "$0.$name" ]; then read -r trouble <"$0.$name"; break; fi
done
case $trouble in
hang) trap '' TERM; "$0.hang" 100000; exit 0 ;;
stand) exec "$0.hang" 100000 ;;
linger) trap '' TERM; '@REAL@' "$@"; "$0.hang" 100000; exit 0 ;;
slow) '@REAL@' "$@" || exit; sleep 1.5; exit 0 ;;
garbage) printf '}{ \\377\\376 what? \\n'; exit 0 ;;
nothing) exit 0 ;;
fail) echo 'it does not want to' >&2; exit 1 ;;
fail-after) '@REAL@' "$@"; echo 'it did, and lies' >&2; exit 1 ;;
freeze) '@REAL@' "$@" || exit
        for arg; do case $arg in --pid-file=*) kill -STOP "$(cat "${arg#*=}")" ;; esac; done
        exit 0 ;;
esac
exec '@REAL@' "$@"
"""


class Shim:
    """hang: it never ends; stand: neither, and it has no child; linger: it does it, and never ends;
    slow: it does it, and takes a while longer; garbage: it prints some and ends well; nothing: it
    ends well and does nothing; fail: it fails and does nothing; fail-after: it does it, and fails;
    freeze: it does it, and stops the main process of what it made."""

    def __init__(self, directory, real, name="shim"):
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / name
        self.path.write_text(SCRIPT.replace("@REAL@", str(real)))
        self.path.chmod(0o755)
        os.symlink("/bin/sleep", f"{self.path}.hang")

    def trouble(self, what, *verbs):
        for verb in verbs or ["all"]:
            temporary = Path(f"{self.path}-{verb}")
            temporary.write_text(f"{what}\n")
            temporary.rename(f"{self.path}.{verb}")

    def heal(self):
        for path in self.path.parent.glob(f"{self.path.name}.*"):
            if not path.is_symlink():
                path.unlink()

    def left(self):
        """Processes that were not ended with it."""
        return list(processes([str(self.path)]))


def shimmed_daemon(make_daemon, directory, runtime):
    """A daemon whose default runtime, of the name "shim", is this one behind a shim."""
    shim = Shim(directory, find_runtime(runtime))
    daemon = make_daemon(runtime="shim", runtimes=runtimes() | {
        "shim": {"type": runtime, "path": str(shim.path)}})
    return daemon, shim


def deaf_runsc(directory, runtime):
    """The path of a program that is this runsc, but is never told --host-uds=create: what listens
    inside is not seen outside."""
    path = directory / "runsc"
    path.write_text('#!/bin/bash\n'
                    'args=()\n'
                    'for a; do [ "$a" = --host-uds=create ] || args+=("$a"); done\n'
                    f'exec {find_runtime(runtime)} "${{args[@]}}"\n')
    path.chmod(0o755)
    return path
