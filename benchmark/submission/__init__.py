"""Submissions: runs that are published, packed by their makers and believed in nothing."""
