"""Outputs made elsewhere, read into ordinary runs: one file a format."""
