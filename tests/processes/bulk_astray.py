"""The suite's settings, but the backend `bulk` points to the application's database."""

from tests.settings import *  # noqa: F403
from tests.settings import TASKS

TASKS["bulk"] = {**TASKS["bulk"], "OPTIONS": {"database_alias": "default"}}
