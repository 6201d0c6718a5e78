"""A module that is interrupted when it is imported."""

raise KeyboardInterrupt
