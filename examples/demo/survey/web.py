"""Serves the admin on the loopback address."""

import os
import secrets
import socket
from collections.abc import Callable

from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.servers import basehttp
from django.core.wsgi import get_wsgi_application

ADDRESS = "127.0.0.1"
USERNAME = "demo"


class PortBusy(Exception):
    """The port cannot be had; the message is for the user."""


def look_at(port: int) -> None:
    """Raise PortBusy unless the port can be had now; 0 always can."""
    try:
        socket.create_server((ADDRESS, port)).close()
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise PortBusy(
            f"--port: expected a free port of {ADDRESS}, got {port}: {reason}"
        ) from error


def new_login() -> str:
    """Give the superuser a new password, make the user if need be; return the password."""
    password = secrets.token_hex(5)
    get_user_model()._default_manager.using("default").update_or_create(
        username=USERNAME,
        defaults={
            "password": make_password(password),
            "is_active": True,
            "is_staff": True,
            "is_superuser": True,
        },
    )
    return password


def serve(port: int, announce: Callable[[str], None]) -> None:
    """Serve until interrupted; `announce` is told the admin's address once it answers.

    Port 0 takes a free one. Raises PortBusy.
    """

    def bound(actual: int) -> None:
        announce(f"http://{ADDRESS}:{actual}/admin/")

    # As runserver does it, but port 0 may be asked for; the handler serves the admin's static
    # files whatever DEBUG is.
    handler = StaticFilesHandler(get_wsgi_application())
    look_at(port)
    basehttp.run(ADDRESS, port, handler, threading=True, on_bind=bound)
