"""The demo's one task."""

from dataclasses import asdict
from pathlib import Path

from django.utils import timezone

from dj_queue.compat import task
from survey.measure import measure
from survey.models import SourceFile


@task
def survey_file(root: str, path: str) -> int:
    """Measure the file `path` below `root`, store what was found, return its lines.

    May run again: the row of the file is replaced.
    """
    found = measure(Path(root, path))
    SourceFile.objects.using("default").update_or_create(
        path=path, defaults={**asdict(found), "done_at": timezone.now()}
    )
    return found.lines
