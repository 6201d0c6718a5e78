"""The planted application's tables."""

from django.db import models


class Shelf(models.Model):
    """A place for parcels."""

    name = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.name


class Parcel(models.Model):
    """A parcel; it knows the job that sends it as one should, by its id."""

    shelf = models.ForeignKey(Shelf, on_delete=models.CASCADE)
    neighbours = models.ManyToManyField("self")
    sending_job_id = models.UUIDField(null=True)

    def __str__(self) -> str:
        return f"parcel {self.pk}"
