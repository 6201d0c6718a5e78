"""The Django app: `survey` in INSTALLED_APPS."""

from django.apps import AppConfig


class SurveyConfig(AppConfig):
    name = "survey"
    verbose_name = "Survey of source files"
