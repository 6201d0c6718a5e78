"""Packets: what MySQL and MariaDB are sent at once is never too long, and never half done."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from django.db import IntegrityError, OperationalError, ProgrammingError

from dj_queue.engines import engine_for, packets
from dj_queue.engines.base import new_rows
from dj_queue.models import Job, ReadyExecution, state_of
from dj_queue.operations.enqueue import enqueue
from dj_queue.routers import QueueDatabase
from tests.jobs import EVERY, NOW, build, counts, store

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

LONG = ["x", "ü", "😀", '"', "\\", "'\n"]
"""Characters of one to four bytes, and some that are escaped in JSON, in SQL or in both."""


@pytest.fixture(autouse=True)
def needs_packets(db: QueueDatabase) -> None:
    if db.vendor != "mysql":
        pytest.skip("needs packets: this database takes a statement of any length")


@pytest.fixture
def sent(db: QueueDatabase, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Give the text of each packet that is sent."""
    texts: list[bytes] = []
    db.connection.ensure_connection()
    # The object, not its type: a process that has run a job watches the statements of each.
    driver = db.connection.connection
    query = driver.query

    def noted(text):
        texts.append(text)
        return query(text)

    monkeypatch.setattr(driver, "query", noted)
    return texts


@pytest.mark.parametrize("text", LONG)
def test_no_packet_is_longer_than_allowed_whatever_the_text(db, monkeypatch, sent, text):
    monkeypatch.setattr(packets, "MOST_BYTES", 20_000)
    jobs = [build(db, args=[text * 500, number]) for number in range(100)]

    enqueue(db, jobs, now=NOW)

    assert max(map(len, sent)) <= 20_000
    assert len(sent) > 3
    assert list(db.objects(Job).order_by("id").values_list("args", flat=True)) == [
        job.args for job in jobs
    ]


def test_jobs_and_states_that_fit_only_apart_are_sent_apart(db, monkeypatch, sent):
    jobs = [build(db) for _ in range(10)]
    sizes = [each.size for each in packets.inserts(db, new_rows(jobs, []))]
    monkeypatch.setattr(packets, "MOST_BYTES", sum(sizes) - 1)

    enqueue(db, jobs, now=NOW)

    inserts = [text for text in sent if b"INSERT" in text]
    assert [text.count(b"INSERT") for text in inserts] == [1, 1]
    assert all(len(text) <= size for text, size in zip(inserts, sizes, strict=True))
    assert counts(db) == {"ready": 10}


def test_a_bulk_of_many_megabytes_is_stored(db):
    # 18 MB on the wire, in less than 4,000,000 characters for each table.
    names = {"queue_name": "😀" * 64, "args": ["😀" * 100]}

    jobs = store(db, count=15_000, **names)

    assert counts(db) == {"ready": 15_000}
    assert db.objects(Job).get(id=jobs[-1].id).args == names["args"]


@pytest.mark.parametrize("error", [OperationalError(2006, "gone"), KeyboardInterrupt()])
def test_a_rollback_that_fails_leaves_no_transaction_open(db, monkeypatch, error):
    # The second statement of the packet fails when the first has stored a row.
    job = build(db)
    ready = state_of(ReadyExecution, job)
    statements = list(packets.inserts(db, [job, ready]))
    statements[1] = replace(statements[1], sql="INSERT INTO nowhere VALUES (%s, %s, %s, %s, %s)")

    def fail() -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(db.connection, "_rollback", fail)
        with pytest.raises((ProgrammingError, KeyboardInterrupt)):
            packets.send_as_transaction(db, statements)

    assert db.connection.connection is None
    store(db)
    assert counts(db) == {"ready": 1}
    assert db.objects(Job).count() == 1


def test_a_packet_that_fails_half_way_leaves_the_connection_in_use(db):
    [job] = store(db)
    driver = db.connection.connection

    with pytest.raises(IntegrityError):
        engine_for(db).store(db, [build(db), job], [])

    assert db.connection.connection is driver
    assert db.objects(Job).count() == 1
    store(db)
    assert counts(db) == {"ready": 2}


def test_inside_a_transaction_what_fits_goes_into_one_packet(db, sent):
    jobs = [build(db) for _ in range(10)]

    with db.atomic():
        engine_for(db).insert(db, new_rows(jobs, []))

    assert [text.count(b"INSERT") for text in sent if b"INSERT" in text] == [2]
    assert counts(db) == {"ready": 10}


@pytest.mark.parametrize("most_bytes", [packets.MOST_BYTES, 100])
def test_inside_a_transaction_an_insert_fails_where_it_stands(db, monkeypatch, most_bytes):
    """The second of two tables refuses its row: whoever opened the transaction decides."""
    monkeypatch.setattr(packets, "MOST_BYTES", most_bytes)
    [known] = store(db)
    job = build(db)

    with pytest.raises(IntegrityError), db.atomic():
        engine_for(db).insert(db, [job, state_of(ReadyExecution, known)])

    assert counts(db) == {"ready": 1}
    assert db.objects(Job).count() == 1
    store(db)
    assert counts(db) == {"ready": 2}


@pytest.fixture
def single_statements(db: QueueDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Connect without multi_statements, and with them again for the tests that follow."""
    monkeypatch.setitem(db.connection.settings_dict["OPTIONS"], "multi_statements", False)
    db.connection.close()
    yield
    db.connection.close()


def test_without_multi_statements_each_statement_is_sent_alone(db, single_statements, sent):
    store(db, count=3)

    assert [text.count(b"INSERT") for text in sent if b"INSERT" in text] == [1, 1]
    assert counts(db) == {"ready": 3}
