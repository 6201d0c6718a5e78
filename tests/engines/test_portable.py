"""The portable engine keeps the contract too, on every vendor: what a new vendor begins with."""

import pytest

from dj_queue import engines
from dj_queue.engines import ClaimEngine, engine_for
from tests.engines import test_contract
from tests.operations import test_dispatch, test_finish

pytestmark = pytest.mark.django_db(databases="__all__")

# The same tests, collected once more.
for module in (test_contract, test_dispatch, test_finish):
    globals().update(
        {name: each for name, each in vars(module).items() if name.startswith("test_")}
    )


@pytest.fixture(autouse=True)
def portable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Know no vendor."""
    monkeypatch.setattr(engines, "ENGINES", {})


def test_it_is_the_portable_engine_that_is_tested(db):
    assert type(engine_for(db)) is ClaimEngine
