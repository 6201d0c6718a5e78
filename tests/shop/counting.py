"""Tasks that count the statements that Django keeps of them."""

from asgiref.sync import sync_to_async
from django.db import connections

from dj_queue.compat import task
from tests.shop.models import Order


@task
def count() -> int:
    """Make a statement; give how many were kept before."""
    kept = sum(len(each.queries_log) for each in connections.all(initialized_only=True))
    Order.objects.count()
    return kept


@task
async def count_later() -> int:
    """Do the same, in the thread of a coroutine's calls."""
    return await sync_to_async(count.func)()
