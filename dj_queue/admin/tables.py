"""Tables of the dashboard: columns, cells, and a sort and pages of their own in the query string.

`queues_sort=2.-1` sorts by the second column, then by the first downwards, as Django's changelist
does; `queues_page=3` is the third page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from django.core.paginator import Page, Paginator
from django.http import QueryDict
from django.utils.html import conditional_escape, format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

TH = mark_safe('th scope="row"')
CELL = '<{} class="dq-{} {}" data-label="{}">{}'


@dataclass(frozen=True)
class Button:
    """A form with one button: what it does, and to what."""

    action: str
    label: str
    title: str
    fields: Sequence[tuple[str, str]] = ()
    tone: str = ""


@dataclass(frozen=True)
class Cell:
    """What a table shows in one place; `tone` is quiet, good, warn, bad or a plain class."""

    text: str
    href: str = ""
    title: str = ""
    tone: str = ""
    pills: Sequence[str] = ()
    buttons: Sequence[Button] = ()
    note: str = ""

    @property
    def html(self) -> SafeString:
        """What it shows but for its buttons."""
        title = format_html(' title="{}"', self.title) if self.title else ""
        if self.href:
            text = format_html('<a href="{}"{}>{}</a>', self.href, title, self.text)
        elif title:
            text = format_html("<span{}>{}</span>", title, self.text)
        else:
            text = conditional_escape(self.text)
        if not self.pills:
            return text
        return text + format_html_join(" ", '<span class="dq-pill">{}</span>', zip(self.pills))

    @property
    def aside(self) -> SafeString:
        """What stands beside it, in small."""
        return format_html(' <small class="dq-note">{}</small>', self.note)


class RenderedCell(NamedTuple):
    """A cell in HTML; its buttons stand between the two halves."""

    begin: SafeString
    buttons: Sequence[Button]
    end: SafeString


@dataclass(frozen=True)
class Column:
    """A column: how a row shows in it, and what it is sorted by.

    `key` sorts rows at hand; `field` is what a database sorts by. With neither it is not sorted.
    """

    label: str
    cell: Callable[[Any], Cell]
    key: Callable[[Any], Any] | None = None
    field: str = ""
    tone: str = ""

    def render(self, row: Any) -> RenderedCell:
        """Return a row's cell in HTML. Not a template: a page has a thousand of them."""
        cell = self.cell(row)
        tag, end = (TH, "</th>") if self.tone == "name" else ("td", "</td>")
        begin = format_html(CELL, tag, self.tone, cell.tone, self.label, cell.html)
        note = cell.aside if cell.note else ""
        return RenderedCell(begin, cell.buttons, mark_safe(note + end))

    @property
    def is_sortable(self) -> bool:
        """Whether its header is a link."""
        return self.key is not None or bool(self.field)


@dataclass(frozen=True)
class Header:
    """A column's header; `priority` is its place among the columns sorted by, 0 for none."""

    column: Column
    priority: int = 0
    is_descending: bool = False
    show_priority: bool = False
    sort_url: str = ""
    toggle_url: str = ""
    remove_url: str = ""


@dataclass(frozen=True)
class TableQuery:
    """What a query string asks of one table; what makes no sense is as if it were not there."""

    name: str
    columns: Sequence[Column]
    query: QueryDict

    @cached_property
    def sort(self) -> list[tuple[int, bool]]:
        """Return the columns to sort by, each with: downwards."""
        found: dict[int, bool] = {}
        for part in self.query.get(f"{self.name}_sort", "").split("."):
            digits = part.removeprefix("-")
            index = int(digits) - 1 if digits.isascii() and digits.isdigit() else -1
            if 0 <= index < len(self.columns) and self.columns[index].is_sortable:
                found.setdefault(index, part.startswith("-"))
        return list(found.items())

    @property
    def page(self) -> str:
        """Return the page's number as it was requested."""
        return self.query.get(f"{self.name}_page", "1")

    @property
    def order(self) -> list[str]:
        """Return the fields to sort by, as a queryset takes them."""
        return [f"{'-' if down else ''}{self.columns[each].field}" for each, down in self.sort]

    def url(self, **changes: str | None) -> str:
        """Return the query string with changes to this table's part of it."""
        query = self.query.copy()
        for name, value in changes.items():
            query.pop(f"{self.name}_{name}", None)
            if value:
                query[f"{self.name}_{name}"] = value
        return f"?{query.urlencode()}" if query else "?"

    def headers(self) -> Iterator[Header]:
        """Give each column's header, with links that sort by it, turn it round or leave it out."""
        by_index = dict(self.sort)
        places = {index: place for place, (index, _) in enumerate(self.sort, 1)}
        for index, column in enumerate(self.columns):
            if not column.is_sortable:
                yield Header(column)
                continue
            others = [pair for pair in self.sort if pair[0] != index]
            down = by_index.get(index, False)
            turned = [(each, not it if each == index else it) for each, it in self.sort]
            first = (index, not down if index in by_index else False)
            yield Header(
                column,
                priority=places.get(index, 0),
                is_descending=down,
                show_priority=len(self.sort) > 1,
                sort_url=self._sorted([first, *others]),
                toggle_url=self._sorted(turned),
                remove_url=self._sorted(others),
            )

    def _sorted(self, sort: Sequence[tuple[int, bool]]) -> str:
        text = ".".join(f"{'-' if down else ''}{index + 1}" for index, down in sort)
        return self.url(sort=text, page=None)


@dataclass(frozen=True)
class Table:
    """A table ready to be shown."""

    query: TableQuery
    page: Page
    empty: str
    is_capped: bool = False
    selection: Sequence[str] = field(default=())

    @property
    def name(self) -> str:
        """Its name in the query string and the page."""
        return self.query.name

    @property
    def headers(self) -> list[Header]:
        """Its columns' headers."""
        return list(self.query.headers())

    @cached_property
    def rows(self) -> list[tuple[str, list[RenderedCell]]]:
        """Its rows: what to select each by, if anything, and its cells."""
        values = self.selection or [""] * len(self.page.object_list)
        return [
            (value, [column.render(row) for column in self.query.columns])
            for value, row in zip(values, self.page.object_list, strict=True)
        ]

    @property
    def count(self) -> str:
        """How many rows there are, in words."""
        number = self.page.paginator.count
        noun = "result" if number == 1 and not self.is_capped else "results"
        return f"{number:,}{'+' if self.is_capped else ''} {noun}"

    @property
    def pages(self) -> list[tuple[str, str]]:
        """The links of the paginator: number and address, "" for the current page and gaps."""
        paginator = self.page.paginator
        if paginator.num_pages < 2:
            return []
        numbers = paginator.get_elided_page_range(self.page.number, on_each_side=2, on_ends=1)
        return [
            (str(each), "" if each in (self.page.number, "…") else self.query.url(page=str(each)))
            for each in numbers
        ]


def table_of(query: TableQuery, rows: Sequence[Any], *, size: int, empty: str) -> Table:
    """Sort rows at hand and take the page that is requested."""
    ordered = list(rows)
    for index, is_descending in reversed(query.sort):
        key = query.columns[index].key
        assert key is not None
        ordered.sort(key=_nones_last(key, is_descending), reverse=is_descending)
    return Table(query, Paginator(ordered, size).get_page(query.page), empty)


def _nones_last(
    key: Callable[[Any], Any], is_descending: bool
) -> Callable[[Any], tuple[bool, Any]]:
    def placed(row: Any) -> tuple[bool, Any]:
        value = key(row)
        is_last = (value is None) is not is_descending
        return (is_last, 0) if value is None else (is_last, value)

    return placed
