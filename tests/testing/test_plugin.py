"""The mark dj_queue opens the queue databases to a test, as pytest-django and Django count them.

Each test runs pytest in a process of its own, on a project with three SQLite databases.
"""

import pytest


def test_a_marked_function_may_use_every_queue_database(project):
    result = project(
        """
@pytest.mark.dj_queue
def test_marked():
    work.enqueue()
    work.using(backend="bulk").enqueue()
    assert_enqueued(work)
    assert [each.return_value for each in drain()] == ["done", "done"]
    assert opened() == {"default", "queue", "bulk"}

@pytest.mark.dj_queue
def test_rolled_back():
    assert_enqueued(work, count=0)
    assert_enqueued(work, backend="bulk", count=0)

@pytest.mark.django_db
def test_not_marked():
    assert opened() == {"default"}
"""
    )

    result.assert_outcomes(passed=3)


def test_other_arguments_of_django_db_are_kept(project):
    result = project(
        """
@pytest.mark.dj_queue
@pytest.mark.django_db(transaction=True, databases=["reports"])
def test_by_name():
    assert opened() == {"reports", "queue", "bulk"}
    assert not connections["queue"].in_atomic_block

@pytest.mark.django_db(True, False, ["reports"])
@pytest.mark.dj_queue
def test_by_position():
    assert opened() == {"reports", "queue", "bulk"}
    assert not connections["queue"].in_atomic_block

@pytest.mark.dj_queue
@pytest.mark.django_db(databases="__all__")
def test_all():
    assert opened() == set(connections)
    assert connections["queue"].in_atomic_block

@pytest.mark.dj_queue
def test_by_fixture(transactional_db):
    assert opened() == {"default", "queue", "bulk"}
    assert not connections["queue"].in_atomic_block

@pytest.mark.django_db(transaction=True)
class TestClass:
    @pytest.mark.dj_queue
    def test_of_the_class(self):
        assert opened() == {"default", "queue", "bulk"}
        assert not connections["queue"].in_atomic_block

    def test_not_marked(self):
        assert opened() == {"default"}
"""
    )

    result.assert_outcomes(passed=6)


def test_tests_of_a_module_or_class_are_marked_at_once(project):
    result = project(
        """
pytestmark = pytest.mark.dj_queue

@pytest.mark.parametrize("number", [1, 2])
def test_function(number):
    assert opened() == {"default", "queue", "bulk"}

class TestClass:
    @pytest.mark.django_db(databases=["reports"])
    def test_method(self):
        assert opened() == {"reports", "queue", "bulk"}
"""
    )

    result.assert_outcomes(passed=3)


def test_classes_of_django_get_their_databases(project):
    result = project(
        """
@pytest.mark.dj_queue
class Plain(TestCase):
    @classmethod
    def setUpTestData(cls):
        work.enqueue()

    def test_databases(self):
        assert opened() == {"default", "queue", "bulk"}
        assert connections["queue"].in_atomic_block
        assert_enqueued(work, count=1)

    def test_again(self):
        assert [each.return_value for each in drain()] == ["done"]

class Inherited(Plain):
    databases = ["reports"]

    def test_databases(self):
        assert opened() == {"reports", "queue", "bulk"}

class ByMethod(TransactionTestCase):
    @pytest.mark.dj_queue
    def test_databases(self):
        assert opened() == {"default", "queue", "bulk"}
        assert not connections["queue"].in_atomic_block

@pytest.mark.dj_queue
class Everything(TestCase):
    databases = "__all__"

    def test_databases(self):
        assert opened() == set(connections)

class NotMarked(TestCase):
    def test_databases(self):
        assert opened() == {"default"}
"""
    )

    result.assert_outcomes(passed=7)


def test_marked_tests_keep_the_order_of_their_kind(project):
    """pytest-django runs tests with a rollback first, then those without, then the others."""
    result = project(
        """
ran = []

def test_without_database():
    assert ran == ["marked", "transactional"]

@pytest.mark.django_db(transaction=True)
@pytest.mark.dj_queue
def test_transactional():
    ran.append("transactional")

@pytest.mark.dj_queue
def test_marked():
    ran.append("marked")
"""
    )

    result.assert_outcomes(passed=3)


def test_the_mark_is_registered(project):
    result = project("", "--markers")

    result.stdout.fnmatch_lines(["@pytest.mark.dj_queue: let the test use every queue database*"])


REFUSED = {
    "arguments": (
        "@pytest.mark.dj_queue(transaction=True)\ndef test_it(): pass",
        "*test_it.py::test_it: expected the mark dj_queue without arguments, got ()*transaction*",
    ),
    "a SimpleTestCase": (
        "@pytest.mark.dj_queue\nclass Simple(SimpleTestCase):\n    def test_it(self): pass",
        "*::test_it: expected the mark dj_queue on a TestCase or *, got a SimpleTestCase, *",
    ),
}


@pytest.mark.parametrize(("test", "message"), REFUSED.values(), ids=REFUSED)
def test_a_mark_that_cannot_work_is_refused(project, test, message):
    result = project(test)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])


MARKED = "import pytest\n@pytest.mark.dj_queue\ndef test_it(): pass"


def test_settings_that_are_missing_are_named(project, pytester):
    pytester.makeini("[pytest]\n")

    result = project(MARKED, head="")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *::test_it: the mark dj_queue needs the project's set*"])


def test_pytest_django_that_is_missing_is_named(project, pytester):
    pytester.makeini("[pytest]\n")
    pytester.makeconftest(
        "import os, django\n"
        "os.environ['DJANGO_SETTINGS_MODULE'] = 'project_settings'\n"
        "django.setup()\n"
    )

    result = project(MARKED, "-p", "no:django", head="")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *::test_it: the mark dj_queue needs pytest-django, got*"])


def test_without_a_marked_test_nothing_of_django_is_imported(pytester, monkeypatch):
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    pytester.makeini("[pytest]\n")
    pytester.makepyfile(
        """
import sys

def test_nothing_is_imported(request):
    assert request.config.pluginmanager.hasplugin("dj_queue")
    assert not any(name.partition(".")[0] == "django" for name in sys.modules)
    assert sorted(name for name in sys.modules if name.partition(".")[0] == "dj_queue") == [
        "dj_queue", "dj_queue.testing", "dj_queue.testing.plugin"
    ]
"""
    )

    result = pytester.runpytest_subprocess("--strict-markers", "-p", "no:django")

    result.assert_outcomes(passed=1)


def test_the_plugin_is_loaded_through_its_entry_point(request):
    assert request.config.pluginmanager.hasplugin("dj_queue")


def test_an_error_whose_text_raises_is_its_tests_failure_only(project):
    result = project(
        """
class Unprintable(Exception):
    def __str__(self):
        raise ValueError("no text")

def test_it():
    raise Unprintable

def test_another():
    pass
"""
    )

    result.assert_outcomes(failed=1, passed=1)


def test_a_refused_query_of_a_test_without_the_mark_is_answered_with_the_mark(project):
    result = project(
        """
def test_no_mark():
    work.enqueue()

@pytest.mark.django_db
def test_of_pytest_django():
    work.enqueue()

def test_wrapped(db):
    try:
        work.enqueue()
    except AssertionError as error:
        raise RuntimeError("the shop is closed") from error

class TestIt(TestCase):
    def test_method(self):
        work.enqueue()

@pytest.fixture
def enqueued(db):
    work.enqueue()

def test_fixture(enqueued):
    pass
"""
    )

    result.assert_outcomes(failed=4, errors=1)
    text = result.stdout.str()
    assert text.count("Mark the test with @pytest.mark.dj_queue") == 5
    assert text.count("'queue' is a queue database.") == 4


def test_other_errors_are_left_alone(project):
    result = project(
        """
def test_of_the_application():
    User.objects.count()

@pytest.mark.django_db
def test_another_database():
    User.objects.using("reports").count()

@pytest.mark.django_db
def test_of_its_own():
    assert "Database queries to 'queue'" == 1
"""
    )

    result.assert_outcomes(failed=3)
    assert "Mark the test" not in result.stdout.str()
