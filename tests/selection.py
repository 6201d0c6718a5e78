"""Which tests a run of the suite leaves to other runs: DJ_QUEUE_TEST_PART names its part.

Nothing is every test. `databases` is each test that touches a database, for a vendor beside which
another vendor's run has the others. A share like 2/5 is every fifth file, beginning with the
second. A browser is opened by runs of every test only.
"""

import re
from collections.abc import Sequence, Set
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import SimpleTestCase

DATABASES = "databases"
SHARE = re.compile(r"([1-9]\d*)/([1-9]\d*)")
DATABASE_FIXTURES = {"db", "transactional_db", "needs_server", "vendor_by_alias", "servers"}
"""A test with one of these depends on the vendor, as does one that is marked django_db."""
BROWSER_FIXTURE = "chrome"


def share_of(part: str) -> tuple[int, int] | None:
    """Read a part: (2, 5) for the share 2/5, None where it is no share."""
    if part in ("", DATABASES):
        return None
    found = SHARE.fullmatch(part)
    if not found or int(found[1]) > int(found[2]):
        raise ImproperlyConfigured(
            f"expected DJ_QUEUE_TEST_PART to be {DATABASES!r} or a share like 2/5, got {part!r}"
        )
    return int(found[1]), int(found[2])


def files_of_other_shares(part: str, files: Sequence[Path] | None = None) -> list[Path]:
    """Give the test files that this part leaves to other shares, in order of their paths."""
    share = share_of(part)
    if share is None:
        return []
    files = sorted(Path(__file__).parent.rglob("test_*.py")) if files is None else files
    number, count = share
    return [file for place, file in enumerate(files) if place % count != number - 1]


def belongs(item: pytest.Item, part: str) -> bool:
    """Tell whether a test, of a file that is read, runs in this part."""
    if not part:
        return True
    fixtures = set(getattr(item, "fixturenames", ()))
    if BROWSER_FIXTURE in fixtures:
        return False
    return part != DATABASES or touches_database(item, fixtures)


def touches_database(item: pytest.Item, fixtures: Set[str]) -> bool:
    """Tell whether a test depends on the vendor of this run."""
    test_class = getattr(item, "cls", None)
    return (
        bool(fixtures & DATABASE_FIXTURES)
        or item.get_closest_marker("django_db") is not None
        or (test_class is not None and issubclass(test_class, SimpleTestCase))
    )
