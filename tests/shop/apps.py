"""The application's configuration."""

from django.apps import AppConfig


class ShopConfig(AppConfig):
    """An application that knows nothing of dj_queue but its tasks."""

    name = "tests.shop"
    label = "shop"
