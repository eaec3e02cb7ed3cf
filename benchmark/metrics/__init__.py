"""Metrics on texts and embeddings: one file a metric, pure functions, nothing heavy at import time."""
