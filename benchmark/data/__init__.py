"""Data of the real suites: where it comes from, local copies of it, and what the tasks make of it."""
