"""Prove that the installed package brings its templates, static files and py.typed.

Run by `tox -e wheel` in an environment that holds the wheel and nothing of this checkout.
"""

import sys
from pathlib import Path

import django
from django.conf import settings
from django.template.loader import get_template

CHECKOUT = Path(__file__).resolve().parent.parent
urlpatterns: list = []
TASKS = {
    "default": {
        "BACKEND": "dj_queue.backend.DjQueueBackend",
        "OPTIONS": {"database_alias": "default"},
    }
}


def main() -> None:
    """Load every template of the package and render one that stands alone."""
    configure()
    import dj_queue

    package = Path(dj_queue.__file__).resolve().parent
    if package.parent == CHECKOUT:
        sys.exit(f"wheel: dj_queue came from the checkout, not from the wheel: {package}")
    if not (package / "py.typed").exists():
        sys.exit("wheel: py.typed is missing from the wheel")
    check_files(package)
    names = load_templates(package / "templates")
    text = render_one(names)
    print(f"wheel: {len(names)} templates load, one rendered to {len(text)} characters")


def configure() -> None:
    """Set up Django with the admin and dj_queue, as a small project would."""
    context_processors = [
        "django.template.context_processors.request",
        "django.contrib.auth.context_processors.auth",
        "django.contrib.messages.context_processors.messages",
    ]
    settings.configure(
        INSTALLED_APPS=[
            "django.contrib.admin",
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "django.contrib.messages",
            "dj_queue",
            *(["django_tasks"] if django.VERSION < (6, 0) else []),
        ],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        TASKS=TASKS,
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {"context_processors": context_processors},
            }
        ],
        STATIC_URL="static/",
        ROOT_URLCONF="__main__",
    )
    django.setup()
    from django.contrib import admin
    from django.urls import path

    # The admin's own templates reverse the admin's URLs.
    urlpatterns.append(path("admin/", admin.site.urls))


def check_files(package: Path) -> None:
    """Compare with the checkout: every file of the package must have been installed."""
    source = CHECKOUT / "dj_queue"
    wanted = {
        path.relative_to(source)
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name != ".DS_Store"
    }
    if missing := sorted(str(path) for path in wanted if not (package / path).is_file()):
        sys.exit(f"wheel: missing from the wheel: {', '.join(missing)}")


def load_templates(directory: Path) -> list[str]:
    """Load each template through Django's loader and return their names."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    names = [path.relative_to(directory).as_posix() for path in files]
    if not names:
        sys.exit(f"wheel: expected templates under {directory}, found none")
    for name in names:
        get_template(name)
    return names


def render_one(names: list[str]) -> str:
    """Render the first template that an almost empty context satisfies."""
    errors = []
    for name in names:
        try:
            text = get_template(name).render({"title": "wheel", "site_header": "dj_queue"})
        except Exception as error:  # some templates need rows to render
            errors.append(f"{name}: {error!r}")
            continue
        if text.strip():
            return text
        errors.append(f"{name}: rendered to nothing")
    return sys.exit("wheel: expected a template to render, got\n" + "\n".join(errors))


if __name__ == "__main__":
    main()
