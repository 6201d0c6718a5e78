"""A module whose import raises what cannot be printed."""


class Speechless(Exception):
    """Has no words for itself."""

    def __str__(self) -> str:
        raise RuntimeError


raise Speechless
