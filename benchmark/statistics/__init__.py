"""Intervals, tests and ranks: pure functions on per-prompt values."""
