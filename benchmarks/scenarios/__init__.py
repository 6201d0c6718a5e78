"""The scenarios: a module each, or a few that share their way of measuring."""
