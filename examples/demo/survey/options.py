"""The demo's command line, shared by bin/demo and the `demo` command; knows nothing of Django."""

import argparse
import sysconfig
from pathlib import Path

DESCRIPTION = """\
Survey the source files of Python's standard library, one job for each, with three task
backends on two queue databases; then serve the admin with what was found.
"""
EPILOG = """\
The database files stay in examples/demo/var; set DJ_QUEUE_DEMO_VAR to another directory to
have them elsewhere. A survey that was stopped goes on where it was; after one that came to its
end the next run surveys all files again, beside the finished jobs of the earlier ones.

Files that Python itself cannot parse fail, as they should. The exit status is 0 when every job
came to an end, 1 when one did not or failed for another reason.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of a run."""
    parser.add_argument(
        "--once", action="store_true", help="end after the summary, without serving the admin"
    )
    parser.add_argument(
        "--fresh", action="store_true", help="start over: delete the demo's database files first"
    )
    parser.add_argument(
        "--source",
        type=Path,
        default=Path(sysconfig.get_path("stdlib")),
        metavar="DIR",
        help="survey the Python files below DIR (default: the standard library)",
    )
    parser.add_argument(
        "--port",
        type=_port,
        default=0,
        metavar="N",
        help="serve the admin on this port of 127.0.0.1 (default: a free one)",
    )


def _port(value: str) -> int:
    if not value.isdecimal() or not 0 < int(value) < 65536:
        raise argparse.ArgumentTypeError(f"expected a port from 1 to 65535, got {value!r}")
    return int(value)
