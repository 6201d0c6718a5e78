"""docs/testing.md and dj_queue.testing agree."""

import inspect

import pytest

from dj_queue import testing
from dj_queue.testing import assert_enqueued, capture_enqueues, drain, leaks
from dj_queue.testing.leaks import LeakMachine, run_leak_machine
from dj_queue.testing.spy import StrayStatement, no_statements, statements_only_on
from tests.test_docs import PAGES, definitions

PAGE = PAGES["docs/testing.md"]
TERMS = definitions(PAGE)
CALLABLES = (
    drain,
    assert_enqueued,
    capture_enqueues,
    statements_only_on,
    no_statements,
    run_leak_machine,
)


def call(function):
    """Write a function's signature as the page does."""
    parts, by_name = [], False
    for each in inspect.signature(function).parameters.values():
        if each.kind is each.VAR_POSITIONAL:
            parts.append(f"*{each.name}")
            by_name = True
            continue
        if each.kind is each.KEYWORD_ONLY and not by_name:
            parts.append("*")
            by_name = True
        default = "SETTINGS" if each.default is leaks.SETTINGS else each.default
        value = getattr(default, "__name__", default)
        parts.append(each.name if default is each.empty else f"{each.name}={value}")
    return f"{function.__name__}({', '.join(parts)})"


def test_signatures_are_those_of_the_code():
    documented = [term for term in TERMS if "(" in term]

    assert documented == [call(function) for function in CALLABLES]


def test_every_public_name_is_documented():
    names = {*testing.__all__, *leaks.__all__, StrayStatement.__name__, LeakMachine.__name__}

    assert {name for name in names if f"`{name}" not in PAGE} == set()


def test_parameters_of_the_leak_machine_are_documented():
    parameters = set(inspect.signature(run_leak_machine).parameters) - {"machine"}

    assert parameters <= set(TERMS)
    assert {name for name in TERMS if "(" not in name} == parameters | {"LeakMachine"}


@pytest.mark.parametrize("module", ["test_running", "test_enqueued", "test_spy"])
def test_quoted_messages_are_those_that_are_tested(module, request):
    """The messages of the page are compared with the code where they are provoked."""
    source = (request.path.parent / f"{module}.py").read_text(encoding="utf-8")
    spoken = source.replace('"\n        "', "").replace("\\n", "\n")
    quoted = [text.partition("\n```")[0] for text in PAGE.split("```text\n")[1:]]

    assert any(text in spoken for text in quoted)
