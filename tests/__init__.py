"""The test suite of dj_queue; its directories mirror the package."""
