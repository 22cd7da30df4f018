"""What systemd is to the daemon: a socket that it tells how it goes, and one that it is handed."""

import socket
import time

from harness import Api, Daemon, wait_until


class Notifications:
    """What the daemon tells its service manager, sd_notify(3)."""

    def __init__(self, path):
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)
        self.all = []
        self.read = 0  # of them

    def close(self):
        self.socket.close()
        self.path.unlink()

    def take(self):
        """What came since: of each message the assignments."""
        came = []
        while True:
            try:
                message = self.socket.recv(4096).decode()
            except BlockingIOError:
                break
            came.append(dict(line.split("=", 1) for line in message.splitlines()))
        self.all += came
        return came

    def wait_for(self, seconds=10, **wanted):
        """Until a message has these assignments; returns it, and forgets those before it."""
        def find():
            self.take()
            for i, message in enumerate(self.all[self.read:], self.read + 1):
                if wanted.items() <= message.items():
                    self.read = i
                    return message
            return None

        return wait_until(find, wanted, seconds)

    def count(self, seconds, **wanted):
        """How many with these assignments come in so long."""
        self.take()
        time.sleep(seconds)
        count = sum(wanted.items() <= message.items() for message in self.take())
        self.read = len(self.all)
        return count


class ManagedDaemon(Daemon):
    """It has $NOTIFY_SOCKET, and is started when it says so."""

    def __init__(self, **config):
        super().__init__(**config)
        self.manager = Notifications(self.dir / "notify")

    def launch(self, **environ):
        self.manager.take()
        self.manager.read = len(self.manager.all)  # what an earlier one told
        super().launch(NOTIFY_SOCKET=str(self.manager.path), **environ)

    def start(self, **environ):
        self.launch(**environ)
        self.manager.wait_for(READY="1")
        self.api = Api(self.socket)
        self.apis.append(self.api)

    def destroy(self):
        self.manager.close()
        super().destroy()


class ActivatedDaemon(ManagedDaemon):
    """Its socket is ours, and stays while it is restarted."""

    def __init__(self, **config):
        super().__init__(**config)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.socket))
        self.listener.listen(4096)
        self.pass_fds = (self.listener.fileno(),)

    def command(self, *args):
        handing_over = f'exec 3<&{self.listener.fileno()}; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"'
        return ["bash", "-c", handing_over, "bash", *super().command(*args)]

    def destroy(self):
        self.listener.close()
        super().destroy()


