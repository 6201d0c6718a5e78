"""The recipes of docs/embedding.md: the runtime inside a web server's process."""

import asyncio
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dj_queue.models import Process
from dj_queue.routers import queue_database
from tests.jobs import EVERY, counts
from tests.shop import tasks
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

PAGE = Path(__file__).parents[2] / "docs" / "embedding.md"


def recipe(name: str) -> dict[str, Any]:
    """Run the page's code block that begins with that comment; give what it defines."""
    [code] = re.findall(rf"```python\n(# {re.escape(name)}\n.*?)```", PAGE.read_text(), re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(compile(code, name, "exec"), namespace)
    return namespace


def test_an_asgi_server_starts_and_stops_the_workers_with_the_application():
    application, db = recipe("asgi.py")["application"], queue_database("default")
    result = tasks.add.enqueue(1, 2)
    sent: list[str] = []

    async def serve() -> None:
        inbox: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        inbox.put_nowait({"type": "lifespan.startup"})

        async def send(message: dict[str, str]) -> None:
            sent.append(message["type"])

        lifespan = asyncio.create_task(application({"type": "lifespan"}, inbox.get, send))
        await asyncio.to_thread(until, lambda: finished(db))
        inbox.put_nowait({"type": "lifespan.shutdown"})
        await lifespan

    asyncio.run(serve())

    result.refresh()
    assert result.return_value == 3
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert not db.objects(Process).exists()


def test_a_gunicorn_worker_runs_jobs_from_its_fork_to_its_exit():
    hooks, worker, db = recipe("gunicorn.conf.py"), SimpleNamespace(), queue_database("default")
    tasks.add.enqueue(1, 2)

    hooks["post_worker_init"](worker)
    until(lambda: finished(db))
    hooks["worker_exit"](None, worker)

    assert counts(db) == {"finished": 1}
    assert not db.objects(Process).exists()


def finished(db: Any) -> bool:
    """Tell whether the job is; leave no connection behind in the asking thread."""
    try:
        return counts(db) == {"finished": 1}
    finally:
        if not db.connection.in_atomic_block:
            db.connection.close()
