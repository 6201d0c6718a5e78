"""Measures one Python source file; knows nothing of Django."""

import ast
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

# Where statements hold other statements; functions and classes stand nowhere else.
BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
Function = ast.FunctionDef | ast.AsyncFunctionDef

# Python warns of odd escapes in the files it parses. For the whole process, because
# catch_warnings() restores the filters of all threads.
warnings.filterwarnings("ignore", category=SyntaxWarning)


@dataclass(frozen=True)
class Measures:
    """What one file holds; `longest_function` is a dotted name, or empty without functions."""

    lines: int
    functions: int
    classes: int
    longest_function: str
    longest_function_lines: int


def measure(path: Path) -> Measures:
    """Parse a file in the encoding it declares; raise what Python raises when it cannot."""
    with tokenize.open(path) as file:
        text = file.read()
    definitions = list(_definitions(ast.parse(text, filename=str(path))))
    functions = [(node, name) for node, name in definitions if isinstance(node, Function)]
    longest, name = max(((_lines_of(node), name) for node, name in functions), default=(0, ""))
    return Measures(
        lines=text.count("\n") + bool(text and text[-1] != "\n"),
        functions=len(functions),
        classes=len(definitions) - len(functions),
        longest_function=name,
        longest_function_lines=longest,
    )


def _definitions(tree: ast.Module) -> Iterator[tuple[Function | ast.ClassDef, str]]:
    """Give each function and class with its dotted name; no recursion, as some nest deeply."""
    waiting: list[tuple[ast.AST, str]] = [(tree, "")]
    while waiting:
        parent, prefix = waiting.pop()
        for node in chain.from_iterable(getattr(parent, name, ()) for name in BLOCKS):
            inner = prefix
            if isinstance(node, Function | ast.ClassDef):
                yield node, prefix + node.name
                inner = f"{prefix}{node.name}."
            waiting.append((node, inner))


def _lines_of(node: Function) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1
