"""How the pages look: nothing cut off at any width, and buttons in sight. bin/screenshots too."""

import pytest

from dj_queue.models import FailedExecution
from dj_queue.routers import queue_database

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

WIDTHS = {1440: 900, 900: 1000, 400: 800}


def pages():
    failed = queue_database("default").objects(FailedExecution).first()
    return {
        "overview": "default/",
        "below": "default/#processes",
        "charts": "default/#charts",
        "empty": "bulk/",
        "queue": "default/queues/mail/failed/",
        "job": f"default/jobs/{failed.pk}/" if failed else "default/jobs/",
        "jobs": "default/jobs/",
        "rows": "default/rows/failed/",
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_off_and_buttons_are_in_sight(site, showcase, pictures, scheme):
    site.prefer(scheme)
    for width, height in WIDTHS.items():
        site.resize(width, height)
        for name, path in pages().items():
            site.open(site.root + path)
            where = f"{name} at {width} px"

            if name != "rows":
                overflow = "return document.documentElement.scrollWidth - window.innerWidth"
                assert site.run(overflow) <= 0, where
            if name == "overview":
                assert buttons_cut_off(site) == [], where
                for css in ("#problems", ".dq-queues .dq-button"):
                    assert bottom(site, css) <= height, f"{css}, {where}"
            if name == "job" and width == 400:
                # Labels stand above their values there, with no hole between them.
                tallest = (
                    "Math.max(...[...document.querySelectorAll('dt')].map(e => e.offsetHeight))"
                )
                assert site.run(f"return {tallest}") <= 40, where
            if pictures:
                site.screenshot(pictures / f"{name}-{width}-{scheme}.png")


def bottom(site, css):
    return site.run(
        "return document.querySelector(arguments[0]).getBoundingClientRect().bottom", css
    )


def buttons_cut_off(site):
    script = """
    const cut = (box) => box.left < 0 || box.right > window.innerWidth;
    return [...document.querySelectorAll('.dq-queues .dq-button')]
      .filter(button => cut(button.getBoundingClientRect()))
      .map(button => button.title)
    """
    return site.run(script)
