"""What the survey finds; it lives in the application database."""

from django.db import models


class SourceFile(models.Model):
    """A file that a job has measured."""

    path = models.CharField(max_length=500, unique=True)
    lines = models.PositiveIntegerField()
    functions = models.PositiveIntegerField()
    classes = models.PositiveIntegerField()
    longest_function = models.CharField(max_length=500, blank=True)
    longest_function_lines = models.PositiveIntegerField(default=0)
    done_at = models.DateTimeField()

    class Meta:
        ordering = ("path",)

    def __str__(self) -> str:
        return self.path
