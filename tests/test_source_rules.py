"""House rules that a linter cannot know, over the syntax tree of the package.

Each rule has code that breaks it and code that keeps it, so that the rule itself is tested.
"""

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import dj_queue

PACKAGE = Path(dj_queue.__file__).parent
SOURCES = sorted(
    path for path in PACKAGE.rglob("*.py") if "migrations" not in path.relative_to(PACKAGE).parts
)
MANAGERS = {"objects", "_default_manager", "_base_manager"}
NAMES_ITS_DATABASE = {"using", "db_manager"}
DRIVERS = {"psycopg", "psycopg2", "psycopg_pool", "MySQLdb", "pymysql", "sqlite3", "asyncpg"}
PREFETCH = {"prefetch_related", "prefetch_related_objects", "Prefetch", "aprefetch_related_objects"}
CREATING = {"create", "bulk_create", "get_or_create", "update_or_create", "update", "bulk_update"}
WRITES = {*CREATING, "save", "delete", "_raw_delete"}
WRITES |= {f"a{name}" for name in WRITES}
OF_A_STATE = re.compile(r"(Execution|^[a-z]\w*)$")  # a model's name, or a variable for any model
WRITING_SQL = re.compile(r"\b(INSERT INTO|DELETE FROM|UPDATE [\w{]|REPLACE INTO|MERGE INTO)")

# The static checks judge settings by vendor; they talk to no database.
LOOKS_AT_VENDOR = (
    "engines/",
    "checks/routing.py",
    "checks/connections.py",
    "routers/handle.py",
    "routers/registry.py",
    "models/fields.py",
)
WRITES_STATES = ("engines/", "operations/transitions.py")
# The leak machine does what user code may do: ask without saying where, prefetch, save by hand.
PROVES_ROUTING = ("testing/leaks/",)


@dataclass(frozen=True)
class Rule:
    """What to look for in a module's tree, and two snippets to try it on."""

    find: Callable[[ast.Module], Iterator[ast.AST]]
    breaks: str
    keeps: str
    allowed_in: tuple[str, ...] = ()
    only_in: str = ""

    def concerns(self, path: str) -> bool:
        return path.startswith(self.only_in) and not path.startswith(self.allowed_in)


def parents(tree):
    return {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}


def name_of(node):
    """Give the last name of `a.b.c`, `c` or a call of either."""
    node = node.func if isinstance(node, ast.Call) else node
    return getattr(node, "attr", getattr(node, "id", ""))


def chain(node):
    """Give the links of `a.b(x).c()`, from the right."""
    while isinstance(node, ast.Call | ast.Attribute | ast.Subscript):
        yield node
        node = node.func if isinstance(node, ast.Call) else node.value
    yield node


def is_call_of(node, above):
    parent = above.get(node)
    return isinstance(parent, ast.Call) and parent.func is node


def bare_manager(tree):
    above = parents(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in MANAGERS:
            handle = node.attr == "objects" and is_call_of(node, above)
            named = name_of(above[node]) in NAMES_ITS_DATABASE and is_call_of(above[node], above)
            if not handle and not named:
                yield node


def default_alias(tree):
    above = parents(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in (
            "django.db",
            "django.db.transaction",
        ):
            names = {each.name for each in node.names}
            if node.module == "django.db.transaction" or names & {"connection", "DEFAULT_DB_ALIAS"}:
                yield node
        if isinstance(node, ast.Attribute) and name_of(node.value) == "transaction":
            keywords = {each.arg for each in getattr(above[node], "keywords", ())}
            if not (is_call_of(node, above) and "using" in keywords):
                yield node


def calls_of(*names):
    def find(tree):
        return (n for n in ast.walk(tree) if isinstance(n, ast.Call) and name_of(n) in names)

    return find


def mentions_of(*names):
    def find(tree):
        for node in ast.walk(tree):
            imported = {each.name for each in getattr(node, "names", ()) if hasattr(each, "name")}
            here = isinstance(node, ast.Attribute | ast.Name) and name_of(node) in names
            if here or imported & set(names):
                yield node

    return find


def driver_imports(tree):
    for node in ast.walk(tree):
        modules = [each.name for each in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if {module.partition(".")[0] for module in modules} & DRIVERS:
            yield node


def project_times(tree):
    """Find what asks Django, or this host's clock, for a time by USE_TZ or TIME_ZONE."""
    for node in ast.walk(tree):
        module, names = getattr(node, "module", ""), getattr(node, "names", ())
        is_zone = module == "django.utils" and "timezone" in {each.name for each in names}
        is_column = isinstance(node, ast.Attribute) and node.attr in {"DateTimeField", "utcnow"}
        is_naive = isinstance(node, ast.Call) and ast.unparse(node) == "datetime.now()"
        if module == "django.utils.timezone" or is_zone or is_column or is_naive:
            yield node


def state_writes(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if WRITING_SQL.search(node.value):
                yield node
        elif isinstance(node, ast.Call) and name_of(node) in WRITES:
            asked = [each for each in chain(node) if name_of(each) == "objects"]
            models = [each.args[0] for each in asked if getattr(each, "args", ())]
            states = [each for each in models if OF_A_STATE.search(name_of(each))]
            rows_in_hand = (
                not models and not is_super(node) and not name_of(node).endswith("update")
            )
            if states or rows_in_hand:
                yield node
        elif isinstance(node, ast.Call) and name_of(node).endswith("Execution"):
            yield node


def is_super(node):
    return any(name_of(each) == "super" for each in chain(node))


def orm_writes(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and name_of(node) in WRITES and not is_super(node):
            # dict.update() is no write: an UPDATE has rows before it.
            rows = any(name_of(each) in {"objects", "filter", "all"} for each in chain(node))
            if rows or not name_of(node).endswith("update"):
                yield node


def long_functions(tree):
    for node in ast.walk(tree):
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if is_function and node.end_lineno - node.lineno >= 40:
            yield node


def long_file(tree):
    last = max((getattr(node, "end_lineno", 0) for node in ast.walk(tree)), default=0)
    return iter([tree] if last > 300 else [])


RULES = {
    "managers name their database": Rule(
        bare_manager,
        breaks="Job.objects.filter(pk=1)\nrows = Job._base_manager\nmodel._default_manager.get()",
        keeps="db.objects(Job).get()\nmodel._base_manager.using(a)\nclass A:\n    objects = M()",
        allowed_in=PROVES_ROUTING,
    ),
    "transactions name their database": Rule(
        default_alias,
        breaks=(
            "from django.db import connection\nfrom django.db.transaction import atomic\n"
            "with transaction.atomic(): pass\ntransaction.on_commit(f)\n@transaction.atomic\n"
            "def f(): pass\ntransaction.set_rollback(True)"
        ),
        keeps="with transaction.atomic(using=a): pass\ndb.on_commit(f)\nwith db.atomic(): pass",
    ),
    "no union": Rule(calls_of("union"), breaks="a.union(b)", keeps="union = 1"),
    "no prefetching": Rule(
        mentions_of(*PREFETCH),
        breaks=(
            "rows.prefetch_related('x')\nfrom django.db.models import Prefetch\n"
            "models.prefetch_related_objects(rows, 'x')"
        ),
        keeps="rows.select_related('x')",
        allowed_in=PROVES_ROUTING,
    ),
    "only engines look at the vendor": Rule(
        mentions_of("vendor", "mysql_is_mariadb"),
        breaks="db.vendor == 'x'\nconnection.mysql_is_mariadb",
        keeps="vendors = []",
        allowed_in=LOOKS_AT_VENDOR,
    ),
    "only engines import drivers": Rule(
        driver_imports,
        breaks="import psycopg.rows\nfrom MySQLdb.constants import ER\nimport os, sqlite3",
        keeps="import json",
        allowed_in=("engines/",),
    ),
    "only dj_queue.timezone knows of USE_TZ": Rule(
        project_times,
        breaks=(
            "from django.utils import timezone\nfrom django.utils.timezone import localtime\n"
            "at = models.DateTimeField()\nnow = datetime.now()\nnow = datetime.utcnow()"
        ),
        keeps="from dj_queue import timezone\nat = UTCDateTimeField()\nnow = datetime.now(UTC)",
        allowed_in=("timezone.py", "models/fields.py"),
    ),
    "only engines and transitions write state rows": Rule(
        state_writes,
        breaks=(
            "db.objects(ReadyExecution).filter(pk=1).delete()\ndb.objects(state).bulk_create(rows)\n"
            "ClaimedExecution(job=job)\nrow.save()\nrows.delete()\nsql = f'DELETE FROM {table}'"
        ),
        keeps=(
            "db.objects(Pause).bulk_create(rows)\ndb.objects(ReadyExecution).filter(pk=1).count()\n"
            "super().save()\nknown.update(a=1)\nsql = 'SELECT 1'"
        ),
        allowed_in=WRITES_STATES + PROVES_ROUTING,
    ),
    "the admin writes through operations": Rule(
        orm_writes,
        breaks="obj.save()\nrows.delete()\ndb.objects(Job).filter(pk=1).update(a=1)\nM.acreate()",
        keeps="context.update(a=1)\nretry(db, ids)\nsuper().save(commit=False)",
        only_in="admin/",
    ),
    "functions have at most 40 lines": Rule(
        long_functions,
        breaks="def f():\n" + "    x = 1\n" * 40,
        keeps="async def f():\n" + "    x = 1\n" * 39,
    ),
    "files have at most 300 lines": Rule(long_file, breaks="x = 1\n" * 301, keeps="x = 1\n" * 300),
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_the_package_keeps_the_rule(rule):
    broken = []
    for path in SOURCES:
        name = path.relative_to(PACKAGE).as_posix()
        if rule.concerns(name):
            found = rule.find(ast.parse(path.read_text(encoding="utf-8")))
            broken += [f"{name}:{getattr(node, 'lineno', 1)}" for node in found]

    assert broken == []


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_each_way_to_break_the_rule_is_found(rule):
    tree = ast.parse(rule.breaks)

    found = list(rule.find(tree))

    # Only a file as a whole is too long; of the others each statement breaks the rule by itself.
    for statement in tree.body if len(tree.body) < 30 else [tree]:
        assert set(ast.walk(statement)) & set(found), ast.unparse(statement)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_what_keeps_the_rule_is_not_found(rule):
    assert list(rule.find(ast.parse(rule.keeps))) == []


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_the_rule_has_files_to_look_at(rule):
    names = [path.relative_to(PACKAGE).as_posix() for path in SOURCES]

    assert any(map(rule.concerns, names))
    for allowed in rule.allowed_in:
        assert any(name.startswith(allowed) for name in names), allowed


def test_no_template_writes_a_time_by_itself():
    # Where USE_TZ is off Django's filters take a datetime of ours for local time.
    pages = sorted(PACKAGE.rglob("*.html"))

    assert pages
    assert [p.name for p in pages if re.search(r"\|\s*(date|time)\b", p.read_text())] == []
