"""Settings for processes on a host whose clock is wrong, by DJ_QUEUE_TEST_AHEAD seconds."""

import os
from datetime import UTC, datetime, timedelta

from dj_queue import timezone
from tests.processes.impatient import *  # noqa: F403

AHEAD = timedelta(seconds=float(os.environ.get("DJ_QUEUE_TEST_AHEAD", "0")))

timezone.now = lambda: datetime.now(UTC) + AHEAD
