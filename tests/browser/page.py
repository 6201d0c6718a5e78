"""What a page says to who looks at it: messages, and what axe finds in it."""

from pathlib import Path

import axe_core_python

AXE = (Path(axe_core_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
CHECK = """
const done = arguments[arguments.length - 1];
axe.run(document, {resultTypes: ['violations']}).then(
  found => done(found.violations.map(v =>
    [v.impact, v.id, v.nodes.slice(0, 3).map(n => n.html.slice(0, 200)).join(' | ')])),
  error => done([['critical', 'axe itself', String(error)]]));
"""


def serious(site):
    """Give axe's serious and critical findings."""
    # In one script: between two the page may be another.
    found = site.run_async(f"{AXE}\n{CHECK}")
    return [each for each in found if each[0] in ("serious", "critical")]


def hears(site, message):
    """Wait for the page that comes after a button was pressed, and its message."""
    shown = ".messagelist li"
    site.wait_for(lambda: site.texts(shown) == [message], f"{message!r}, {site.texts(shown)} did:")


def complaints(site):
    """Give what the console said, but of the icon that Chromium asks for by itself."""
    return [each for each in site.complaints() if "favicon.ico" not in each]
