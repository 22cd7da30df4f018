"""What a client of Start or Attach was told, and whether it may be so."""

from sandboxd.v1 import process_pb2

OUT, ERR = process_pb2.OUTPUT_STREAM_STDOUT, process_pb2.OUTPUT_STREAM_STDERR
STREAMS = OUT, ERR
DATA_MAX = 65536


class Received:
    """Events as they come, each held against what process.proto says: `start` first, offsets that go
    on where the last `data` or `gap` of the stream ended, `end` last, with the sizes that came."""

    def __init__(self, stdout_offset=0, stderr_offset=0, gaps=False, sink=None):
        """From these offsets on; None: wherever it begins. gaps: there may be some. sink(stream,
        offset, bytes) gets the data, which is kept otherwise."""
        self.next = {OUT: stdout_offset, ERR: stderr_offset}
        self.pid, self.end = None, None
        self.parts, self.gaps, self.keepalives = [], [], 0
        self.gaps_allowed, self.sink = gaps, sink

    def all(self, call):
        for event in call:
            self.take(event)
        return self

    def until(self, call, condition):
        """Reads on until condition(self) holds."""
        while not condition(self):
            self.take(next(call))
        return self

    def take(self, event):
        assert self.end is None, f"after the end: {event}"
        what = event.WhichOneof("event")
        if self.pid is None and what != "keepalive":
            assert what == "start" or (what == "end" and event.end.error), event
        getattr(self, f"take_{what}")(getattr(event, what))

    def take_start(self, start):
        assert self.pid is None and start.pid > 1
        self.pid = start.pid

    def goes_on(self, stream, offset):
        assert stream in STREAMS
        assert self.next[stream] in (None, offset), f"{offset}, not {self.next[stream]}"

    def take_data(self, data):
        self.goes_on(data.stream, data.offset)
        assert 1 <= len(data.data) <= DATA_MAX
        self.next[data.stream] = data.offset + len(data.data)
        if self.sink:
            self.sink(data.stream, data.offset, data.data)
        else:
            self.parts.append((data.stream, data.data))

    def take_gap(self, gap):
        assert self.gaps_allowed, gap
        self.goes_on(gap.stream, getattr(gap, "from"))
        assert getattr(gap, "from") < gap.to
        self.next[gap.stream] = gap.to
        self.gaps.append((gap.stream, getattr(gap, "from"), gap.to))

    def take_keepalive(self, _):
        self.keepalives += 1

    def take_end(self, end):
        self.end = end
        assert 0 <= end.exit_code <= 255
        if end.error:
            assert self.pid is None and end.exit_code in (126, 127)
            assert not end.HasField("ended_at") and end.stdout_size == end.stderr_size == 0
            return
        assert end.HasField("ended_at")
        assert end.signal == 0 or end.exit_code == 128 + end.signal
        for stream, size in zip(STREAMS, (end.stdout_size, end.stderr_size)):
            assert self.next[stream] in (None, size), f"{size} bytes, {self.next[stream]} came"

    def bytes(self, stream):
        return b"".join(data for which, data in self.parts if which == stream)

    @property
    def stdout(self):
        return self.bytes(OUT)

    @property
    def stderr(self):
        return self.bytes(ERR)

    def order(self):
        """The output in the order of arrival, with what is next to each other in one."""
        merged = []
        for stream, data in self.parts:
            if merged and merged[-1][0] == stream:
                merged[-1] = stream, merged[-1][1] + data
            else:
                merged.append((stream, data))
        return merged
