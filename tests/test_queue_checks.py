"""W009: what is enqueued is claimed, and what is claimed is enqueued."""

import pytest

from dj_queue.checks.queues import check_queues


def found(settings, queues, workers, **options):
    """Give what the check says of one backend, shortened."""
    entry = {"BACKEND": "dj_queue.backend.DjQueueBackend", "OPTIONS": {**options}}
    entry["OPTIONS"]["workers"] = [{"queues": each} for each in workers]
    settings.TASKS = {"default": entry if queues is None else {**entry, "QUEUES": queues}}
    said = [each.msg for each in check_queues()]
    return [
        each.partition(", got ")[2].partition(",")[0]
        if "to which nothing" in each
        else each.partition("takes from the queue ")[2].partition(",")[0]
        for each in said
    ]


@pytest.mark.parametrize(
    ("queues", "workers", "says"),
    [
        (["email"], [["emial"]], ["'emial'", "'email'"]),
        (["email"], [["*"], "emial"], ["'emial'"]),
        (["email"], [["em*"], ["mail*"]], ["'mail*'"]),
        (["a", "b"], [["a"], ["a", "c"]], ["'c'", "'b'"]),
        ({"a", "b"}, [["a", "b"]], []),
        (["report", "report.daily"], [["report*"]], []),
        (["email"], [["*"]], []),
        (None, [["emial"]], ["'emial'", "'default'"]),
        (None, [["default"]], []),
        ([], [["emial"]], ["'default'"]),
        ([], [["emial"], ["*"]], []),
        ([], [["def*"]], []),
    ],
    ids=str,
)
def test_queues_and_workers_are_compared_both_ways(settings, queues, workers, says):
    assert found(settings, queues, workers) == says


def test_a_recurring_task_names_a_queue_that_is_used(settings):
    entry = {"task_path": "tests.shop.tasks.sweep", "schedule": "@daily", "queue_name": "night"}
    recurring = {"nightly": entry}

    assert found(settings, [], [["default"]], recurring=recurring) == ["'night'"]
    assert found(settings, [], [["default", "night"]], recurring=recurring) == []


def test_wrong_options_and_queues_are_left_to_e001(settings):
    assert found(settings, "email", [["emial"]]) == []
    assert found(settings, ["email"], [[" emial"]]) == []
