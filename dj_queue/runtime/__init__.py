"""Processes, threads, loops and signals; no SQL."""

import os
import sys

from django.core.exceptions import ImproperlyConfigured

if not hasattr(os, "fork"):
    raise ImproperlyConfigured(
        f"expected a POSIX system such as Linux or macOS to run dj_queue's workers, got "
        f"{sys.platform}: run `manage.py dj_queue` in a container or in WSL; everything else, "
        "enqueue() too, works here"
    )
