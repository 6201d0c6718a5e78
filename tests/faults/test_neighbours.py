"""An entry of TASKS that is another library's and broken: it stops nobody but itself."""

import pytest

from tests.faults.project import Project
from tests.faults.test_live_faults import ENQUEUE, WORK

BROKEN = {
    "no module": ("mailer.tasks.Backend", None),
    "raises": ("broken.Backend", "raise RuntimeError('not today')"),
    "is not willing": (
        "broken.Backend",
        "class Backend:\n    def __init__(self, **_): raise KeyError(1)",
    ),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_neighbour_stops_neither_migrate_nor_enqueue_nor_workers(
    empty: Project, broken: str
):
    path, code = BROKEN[broken]
    if code:
        (empty.directory / "broken.py").write_text(code)
    empty.write({"TASKS.mail": {"BACKEND": path}})

    outcomes = empty.run("dj_queue_migrate", "migrate --skip-checks", ENQUEUE, WORK)

    assert [each.status for each in outcomes] == [0] * 4, [each.text for each in outcomes]


def test_the_map_and_the_tag_name_it(migrated: Project):
    migrated.write({"TASKS.mail": {"BACKEND": "mailer.tasks.Backend"}})

    checked, mapped = migrated.run("check --tag dj_queue", "dj_queue_routes --json")

    assert (checked.status, mapped.status, mapped.ids) == (0, 1, ["W008"])
    says = "expected TASKS['mail']['BACKEND'] to be the path of a class, got ModuleNotFoundError"
    assert f"(dj_queue.W008) {says}" in checked.text
