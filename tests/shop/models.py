"""The application's own table."""

from django.db import models
from django.utils import timezone


class Order(models.Model):
    """An order of the shop, kept in the application database."""

    reference = models.CharField(max_length=50, unique=True)
    total = models.DecimalField(max_digits=10, decimal_places=2, default=0)
    created_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.reference
