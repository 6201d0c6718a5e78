"""Each test runs in the parts where its result can differ, and in all of them together once."""

from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import TestCase

from tests.selection import belongs, files_of_other_shares

FILES = [Path(f"test_{number}.py") for number in range(7)]


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_the_shares_have_each_file_once(count: int) -> None:
    shares = [
        set(FILES) - set(files_of_other_shares(f"{number}/{count}", FILES))
        for number in range(1, count + 1)
    ]

    assert sorted(file for share in shares for file in share) == FILES


def test_the_files_of_this_suite_are_shared() -> None:
    others = files_of_other_shares("1/2")

    assert Path(__file__) in {*others, *files_of_other_shares("2/2")}


@pytest.mark.parametrize("part", ["database", "3/2", "0/2", "1/0", "1/", "-1/2"])
def test_an_unknown_part_is_refused(part: str) -> None:
    with pytest.raises(ImproperlyConfigured) as refused:
        files_of_other_shares(part, FILES)

    assert str(refused.value) == (
        f"expected DJ_QUEUE_TEST_PART to be 'databases' or a share like 2/5, got {part!r}"
    )


def test_without_a_database_a_test_is_left_to_one_vendor(request: pytest.FixtureRequest) -> None:
    assert belongs(request.node, "")
    assert belongs(request.node, "1/2")
    assert not belongs(request.node, "databases")


@pytest.mark.django_db
def test_a_mark_is_a_database(request: pytest.FixtureRequest) -> None:
    assert belongs(request.node, "databases")


@pytest.mark.usefixtures("vendor_by_alias")
def test_a_fixture_is_a_database(request: pytest.FixtureRequest) -> None:
    assert belongs(request.node, "databases")


class DjangoTest(TestCase):
    """Django's own way to ask for a database."""

    @pytest.fixture(autouse=True)
    def keep_item(self, request: pytest.FixtureRequest) -> None:
        self.item = request.node

    def test_a_class_is_a_database(self) -> None:
        assert belongs(self.item, "databases")
