"""Django's flush, at a fraction of its price: it runs after each test that commits.

Only tables that hold rows are emptied, and the content types and permissions, which Django deletes
and makes anew each time, stay.
"""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.core.management.color import no_style
from django.db import connections

KEPT = {"django_content_type", "auth_permission"}
FEW = 1000
"""PostgreSQL deletes so many rows in less time than it truncates a table."""


class Command(BaseCommand):
    """Empty the tables in which a test left rows."""

    requires_system_checks = []
    stealth_options = ("interactive", "reset_sequences", "allow_cascade", "inhibit_post_migrate")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--database", required=True)

    def handle(self, *, database: str, **options: Any) -> None:
        connection = connections[database]
        quote = connection.ops.quote_name
        names = connection.introspection.django_table_names(only_existing=True, include_views=False)
        tables = sorted({*names} - KEPT)
        counts = [
            f"(SELECT COUNT(*) FROM (SELECT 1 FROM {quote(table)} LIMIT {FEW + 1}) rows_there)"
            for table in tables
        ]
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {', '.join(counts)}")
            row = cursor.fetchone()
        found = {table: count for table, count in zip(tables, row, strict=True) if count}
        deletes = connection.vendor == "postgresql"  # The others delete in any case.
        few = [table for table, count in found.items() if deletes and count <= FEW]
        statements = [f"DELETE FROM {quote(table)}" for table in few]
        statements += connection.ops.sql_flush(
            no_style(), sorted({*found} - {*few}), allow_cascade=deletes
        )
        connection.ops.execute_sql_flush(statements)
