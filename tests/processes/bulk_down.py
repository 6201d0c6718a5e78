"""The suite's settings, but the queue database `bulk` cannot be reached."""

import socket
from pathlib import Path

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES

with socket.socket() as closed:
    closed.bind(("127.0.0.1", 0))
    port = closed.getsockname()[1]

bulk = DATABASES["bulk"]
if "sqlite3" in bulk["ENGINE"]:
    bulk["NAME"] = Path(bulk["NAME"]).parent / "no such directory" / "bulk.sqlite3"
else:
    bulk |= {"HOST": "127.0.0.1", "PORT": port}
