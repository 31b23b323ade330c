from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from sam2track.errors import SourceError
from sam2track.video.container import without_password
from sam2track.video.live import LiveSource, Reconnect
from sam2track.video.stream import StreamSource, url_scheme
from tests.clips import index_of, numbered, write_clip
from tests.video.servers import Server

QUICK = Reconnect(attempts=3, delay=0.05)


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 5
    while left := set(threading.enumerate()) - before:
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


@pytest.fixture
def transport_stream(tmp_path: Path) -> bytes:
    return write_clip(tmp_path / "a.ts", numbered(10), 25).read_bytes()


@pytest.fixture
def long_stream(tmp_path: Path) -> bytes:
    """Long enough for FFmpeg to be sure of what it is before it ends."""
    return write_clip(tmp_path / "c.ts", numbered(60), 25).read_bytes()


@pytest.fixture
def second_half(tmp_path: Path) -> bytes:
    return write_clip(tmp_path / "b.ts", numbered(10, first=10), 25).read_bytes()


def test_cut_tcp_stream_comes_back(transport_stream: bytes, second_half: bytes) -> None:
    def serve(connection: socket.socket, number: int, stop: threading.Event) -> None:
        connection.sendall(transport_stream if number == 0 else second_half)

    with Server(serve) as server, StreamSource(f"tcp://127.0.0.1:{server.port}", reconnect=QUICK) as source:
        assert (source.width, source.height, source.live, source.frame_count) == (96, 64, True, None)
        frames = [next(source) for _ in range(20)]
        assert source.reconnects == 1
    assert [frame.index for frame in frames] == list(range(20))
    assert [index_of(frame.image) for frame in frames] == list(range(20))
    times = [frame.time for frame in frames]
    assert times == sorted(set(times))
    assert times[:10] == [Fraction(index, 25) for index in range(10)]
    pause = times[10] - times[9]
    assert Fraction(1, 25) < pause < 5, "the outage is part of the time"
    assert [time - times[10] for time in times[10:]] == [Fraction(index, 25) for index in range(10)]


@pytest.mark.parametrize("container", ["mpegts", "matroska"])
def test_stream_cut_in_the_middle_of_a_packet(tmp_path: Path, container: str) -> None:
    data = write_clip(tmp_path / "a", numbered(20), 25, container=container).read_bytes()

    def serve(connection: socket.socket, number: int, stop: threading.Event) -> None:
        connection.sendall(data[: len(data) * 2 // 3] if number == 0 else data)

    with Server(serve) as server, StreamSource(f"tcp://127.0.0.1:{server.port}", reconnect=QUICK) as source:
        frames = [next(source)]
        while [index_of(frame.image) for frame in frames[-20:]] != list(range(20)):
            frames.append(next(source))
            assert len(frames) < 60
        assert source.reconnects == 1
    assert len(frames) > 20, "some frames came before the cut"
    indices = [frame.index for frame in frames]
    assert indices == sorted(set(indices))
    times = [frame.time for frame in frames]
    assert times == sorted(set(times))


def test_silent_stream_is_lost_after_the_read_timeout(long_stream: bytes, second_half: bytes) -> None:
    def serve(connection: socket.socket, number: int, stop: threading.Event) -> None:
        connection.sendall(long_stream if number == 0 else second_half)
        if number == 0:
            time.sleep(1.0)  # connected, and nothing comes

    with (
        Server(serve) as server,
        StreamSource(f"tcp://127.0.0.1:{server.port}", read_timeout=0.4, reconnect=QUICK) as source,
    ):
        started = time.monotonic()
        numbers = [index_of(next(source).image)]
        while source.reconnects == 0 or numbers[-1] != 19:
            numbers.append(index_of(next(source).image))
        assert 0.3 < time.monotonic() - started < 5
    assert numbers[:40] == list(range(40))
    assert numbers[-10:] == list(range(10, 20))


def test_gives_up_after_the_attempts_allowed(transport_stream: bytes) -> None:
    def serve(connection: socket.socket, number: int, stop: threading.Event) -> None:
        if number == 0:
            connection.sendall(transport_stream)

    reconnect = Reconnect(attempts=2, delay=0.05)
    with Server(serve) as server, StreamSource(f"tcp://127.0.0.1:{server.port}", reconnect=reconnect) as source:
        assert [index_of(next(source).image) for _ in range(10)] == list(range(10))
        with pytest.raises(SourceError, match="was lost and did not come back in 2 attempts") as caught:
            next(source)
        assert server.connections == 3
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value.__cause__, SourceError)


def test_no_attempts_make_the_senders_end_the_end(transport_stream: bytes) -> None:
    def serve(connection: socket.socket, number: int, stop: threading.Event) -> None:
        connection.sendall(transport_stream)

    url = "tcp://127.0.0.1:{}"
    with Server(serve) as server, StreamSource(url.format(server.port), reconnect=Reconnect(attempts=0)) as source:
        assert [index_of(frame.image) for frame in source] == list(range(10))
        assert server.connections == 1


def test_back_off_doubles_up_to_a_limit() -> None:
    assert [Reconnect(delay=0.5).wait(attempt) for attempt in (1, 2, 3, 4)] == [0.5, 1.0, 2.0, 4.0]
    assert Reconnect(delay=0.5).wait(20) == 30


def test_close_from_another_thread_releases_a_waiting_read(long_stream: bytes) -> None:
    def serve(connection: socket.socket, number: int, stop: threading.Event) -> None:
        connection.sendall(long_stream)
        stop.wait(10)

    with Server(serve) as server:
        source = StreamSource(f"tcp://127.0.0.1:{server.port}", read_timeout=1.5, reconnect=QUICK)
        received: list[int] = []
        ended = threading.Event()

        def read() -> None:
            received.extend(frame.index for frame in source)
            ended.set()

        reader = threading.Thread(target=read)
        reader.start()
        time.sleep(0.3)
        assert received
        assert not ended.is_set()
        started = time.monotonic()
        source.close()
        assert ended.wait(1)
        assert time.monotonic() - started < 1.0
        reader.join(5)
        source.close()
        with pytest.raises(SourceError, match="is closed"):
            next(source)


def test_close_releases_the_reading_thread_when_nobody_fetches(tmp_path: Path) -> None:
    data = write_clip(tmp_path / "a.ts", numbered(60), 25).read_bytes()

    def serve(connection: socket.socket, number: int, stop: threading.Event) -> None:
        connection.sendall(data)

    with Server(serve) as server, StreamSource(f"tcp://127.0.0.1:{server.port}", reconnect=QUICK) as source:
        time.sleep(0.2)
        assert len(source._frames) <= 4, "frames that wait are bounded"
        assert next(source).index == 0


def test_refused_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for url in (f"tcp://127.0.0.1:{port}", f"http://127.0.0.1:{port}/a.ts", f"rtsp://127.0.0.1:{port}/a"):
        with pytest.raises(SourceError, match="refused the connection") as caught:
            StreamSource(url, open_timeout=3)
        assert url in str(caught.value)


@pytest.mark.parametrize("scheme", ["tcp", "http", "rtsp", "rtmp"])
def test_open_timeout(scheme: str) -> None:
    def serve(connection: socket.socket, number: int, stop: threading.Event) -> None:
        stop.wait(10)

    with Server(serve) as server:
        started = time.monotonic()
        with pytest.raises(SourceError, match=r"did not answer within 0\.3 s"):
            StreamSource(f"{scheme}://127.0.0.1:{server.port}/live/a", open_timeout=0.3)
        assert time.monotonic() - started < 3


def test_what_is_not_video() -> None:
    def serve(connection: socket.socket, number: int, stop: threading.Event) -> None:
        connection.sendall(b"hello, this is no video\n" * 200)

    with Server(serve) as server, pytest.raises(SourceError, match="is not a video"):
        StreamSource(f"tcp://127.0.0.1:{server.port}", open_timeout=2)


def test_passwords_are_never_shown() -> None:
    for url, shown in (
        ("rtsp://user:secret@127.0.0.1:1/a", "user:***@127.0.0.1"),
        ("rtsp://user:se@cret@127.0.0.1:1/a", "user:***@127.0.0.1"),
        ("ftp://user:secret@127.0.0.1/a", "user:***@127.0.0.1"),
    ):
        with pytest.raises(SourceError) as caught:
            StreamSource(url, open_timeout=2)
        assert "cret" not in str(caught.value)
        assert shown in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("srt://host:9000?mode=caller&passphrase=secret", "srt://host:9000?mode=caller&passphrase=***"),
        ("http://host/a?Password=secret&rate=5", "http://host/a?Password=***&rate=5"),
        ("rtsp://:secret@host/a", "rtsp://:***@host/a"),
        ("rtsp://user:s?e#c@ret@host/a", "rtsp://user:***@host/a"),
        ("http://host:80/a:b@c", "http://host:80/a:b@c"),
        ("http://host/a?at=1:2@3", "http://host/a?at=1:2@3"),
    ],
)
def test_what_of_an_address_is_a_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_settings_that_make_no_sense() -> None:
    with pytest.raises(SourceError, match="must be positive"):
        StreamSource("tcp://127.0.0.1:1", read_timeout=0)
    with pytest.raises(SourceError, match="is not a stream address"):
        StreamSource("gopher://127.0.0.1:1")


@pytest.mark.parametrize(
    ("text", "scheme"),
    [("RTSP://h/a", "rtsp"), ("http://h", "http"), ("a/b.mp4", None), (r"C:\a.mp4", None), ("udp://@:1", "udp")],
)
def test_scheme(text: str, scheme: str | None) -> None:
    assert url_scheme(text) == scheme


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join(5)


def test_recording_over_http_is_not_live_and_ends(tmp_path: Path, web: str) -> None:
    write_clip(tmp_path / "a.mp4", numbered(40), 25)
    with StreamSource(f"{web}/a.mp4", reconnect=QUICK) as source:
        assert not source.live
        assert source.frame_count == 40
        time.sleep(0.2)  # a slow reader loses nothing
        assert [index_of(frame.image) for frame in source] == list(range(40))
        assert source.reconnects == 0


def test_missing_page(web: str) -> None:
    with pytest.raises(SourceError, match="was refused by its server"):
        StreamSource(f"{web}/none.mp4")


def test_http_stream_without_an_end_is_live_and_comes_back(transport_stream: bytes, second_half: bytes) -> None:
    def serve(connection: socket.socket, number: int, stop: threading.Event) -> None:
        connection.recv(4096)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\nConnection: close\r\n\r\n"
        connection.sendall(head + (transport_stream if number == 0 else second_half))

    with Server(serve) as server, StreamSource(f"http://127.0.0.1:{server.port}/a", reconnect=QUICK) as source:
        assert source.live
        numbers = [index_of(next(source).image) for _ in range(20)]
        assert source.reconnects == 1
    assert numbers == list(range(20))


def test_another_size_after_reconnection_is_scaled(tmp_path: Path, transport_stream: bytes) -> None:
    large = write_clip(tmp_path / "l.ts", numbered(10, (128, 192), first=10), 25).read_bytes()

    def serve(connection: socket.socket, number: int, stop: threading.Event) -> None:
        connection.sendall(transport_stream if number == 0 else large)

    with Server(serve) as server, StreamSource(f"tcp://127.0.0.1:{server.port}", reconnect=QUICK) as source:
        frames = [next(source) for _ in range(20)]
    assert {frame.image.shape for frame in frames} == {(64, 96, 3)}
    assert [index_of(frame.image) for frame in frames] == list(range(20))


def test_an_error_of_the_reading_thread_reaches_the_caller() -> None:
    def connect(size: tuple[int, int] | None) -> object:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        LiveSource("broken", connect, Reconnect())  # type: ignore[arg-type]


def test_udp(long_stream: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    done = threading.Event()

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            while not done.is_set():  # over and over: the clock of the stream jumps back each time
                for start in range(0, len(long_stream), 1316):
                    out.sendto(long_stream[start : start + 1316], ("127.0.0.1", port))
                    time.sleep(0.001)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        with StreamSource(f"udp://127.0.0.1:{port}", reconnect=QUICK) as source:
            assert source.live
            frames = [next(source) for _ in range(90)]
    finally:
        done.set()
        sender.join(5)
    assert {frame.image.shape for frame in frames} == {(64, 96, 3)}
    times = [frame.time for frame in frames]
    assert times == sorted(set(times))
    numbers = [index_of(frame.image) for frame in frames]
    steps = [b - a for a, b in pairwise(numbers)]
    assert steps.count(1) > 70
