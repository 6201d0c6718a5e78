"""The suite's settings for processes that beat often, tell what they do, and are given options.

DJ_QUEUE_TEST_OPTIONS has options for every backend as JSON, DJ_QUEUE_TEST_QUEUE where else the
queue database `queue` is reached: HOST, PORT and so on. `queue_direct` leads past that.
"""

import json
import os

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, TASKS

for backend in TASKS.values():
    backend["OPTIONS"] |= {
        "process_heartbeat_interval": 0.2,
        "process_alive_threshold": 20,
        "shutdown_timeout": 30,
        "dispatcher": {"polling_interval": 0.1},
        **json.loads(os.environ.get("DJ_QUEUE_TEST_OPTIONS", "{}")),
    }

if place := os.environ.get("DJ_QUEUE_TEST_QUEUE"):
    DATABASES["queue_direct"] = {**DATABASES["queue"], "TEST": {"MIRROR": "queue"}}
    DATABASES["queue"] |= json.loads(place)
    # What goes through a proxy must be readable: tests wait for statements.
    plain = {"postgresql": {"sslmode": "disable"}, "mysql": {"ssl_mode": "DISABLED"}}
    vendor = DATABASES["queue"]["ENGINE"].rpartition(".")[2]
    options = {**DATABASES["queue"].get("OPTIONS", {}), **plain.get(vendor, {})}
    DATABASES["queue"]["OPTIONS"] = options

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"dj_queue": {"handlers": ["console"], "level": "INFO"}},
}
