"""A TCP proxy before a database server, which a test may shut, or have cut a connection in time."""

import socket
import threading
from collections.abc import Sequence
from contextlib import suppress

CHUNK = 1 << 16


class Proxy:
    """Passes bytes on both ways; each connection is a pair of sockets and two threads."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.cut_count = 0
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._texts: Sequence[bytes] = ()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._listen()

    def shut(self) -> None:
        """Cut every connection, and accept none until `open`."""
        # Closed alone it would go on accepting in the thread that waits in accept().
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            self._is_open, pairs = False, list(self._pairs)
        for pair in pairs:
            self._cut(pair)

    def open(self) -> None:
        """Accept again, at the same port."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._listen()

    def cut_answer_of(self, *texts: bytes) -> None:
        """Cut a connection that sends these, one after the other: it has no answer to the last.

        The server gets all of it, and goes on as if nothing had happened. Once.
        """
        self._texts = texts

    def _listen(self) -> None:
        listener, self._is_open = self._listener, True
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                try:
                    server = socket.create_connection(self.target)
                except OSError:
                    client.close()
                    continue
                pair = client, server
                with self._lock:
                    is_open = self._is_open
                    if is_open:
                        self._pairs.add(pair)
                if not is_open:  # Accepted while it was shut.
                    self._cut(pair)
                    return
                for source, sink in (pair, pair[::-1]):
                    thread = threading.Thread(
                        target=self._pass_on, args=(pair, source, sink), daemon=True
                    )
                    thread.start()

    def _pass_on(
        self, pair: tuple[socket.socket, socket.socket], source: socket.socket, sink: socket.socket
    ) -> None:
        seen_count = 0
        with suppress(OSError):
            while chunk := source.recv(CHUNK):
                texts = self._texts if source is pair[0] else ()
                while seen_count < len(texts) and texts[seen_count] in chunk:
                    seen_count += 1
                if texts and seen_count == len(texts) and self._is_first(texts):
                    source.shutdown(socket.SHUT_RDWR)
                    sink.sendall(chunk)
                    self.cut_count += 1
                    return  # The other direction ends when the answer cannot be passed on.
                sink.sendall(chunk)
        self._cut(pair)

    def _is_first(self, texts: Sequence[bytes]) -> bool:
        with self._lock:
            is_first, self._texts = self._texts is texts, ()
        return is_first

    def _cut(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with self._lock:
            self._pairs.discard(pair)
        for each in pair:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
