"""Relations that reach into another database, three ways."""

from django.db import models


class Entry(models.Model):
    """Points to a job."""

    job = models.ForeignKey("dj_queue.Job", on_delete=models.CASCADE)

    def __str__(self) -> str:
        return f"{self._meta.verbose_name} {self.pk}"


class Receipt(models.Model):
    """Points to a failure."""

    failure = models.OneToOneField("dj_queue.FailedExecution", on_delete=models.CASCADE)

    def __str__(self) -> str:
        return f"{self._meta.verbose_name} {self.pk}"


class Batch(models.Model):
    """Points to many jobs."""

    jobs = models.ManyToManyField("dj_queue.Job")

    def __str__(self) -> str:
        return f"{self._meta.verbose_name} {self.pk}"
