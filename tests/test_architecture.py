"""The tour of the code leads to files that exist."""

import re
from pathlib import Path

import dj_queue
from tests.test_docs import PAGES

PACKAGE = Path(dj_queue.__file__).parent
PAGE = PAGES["docs/architecture.md"]


def test_every_path_on_the_tour_exists():
    paths = re.findall(r"`([a-z_/]+(?:\.py|/))`", PAGE)
    below = [path for path in paths if path != "dj_queue/" and not path.startswith("tests/")]

    assert len(set(below)) > 25
    assert [path for path in below if not (PACKAGE / path).exists()] == []


def test_every_part_of_the_package_is_on_the_tour():
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}

    missing = {name for name in folders - {"migrations", "testing"} if f"`{name}/" not in PAGE}

    assert missing == set()
