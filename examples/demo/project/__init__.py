"""The demo's project: settings and urls."""
