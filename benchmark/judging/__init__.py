"""A sample against the reference → a verdict: one file a judge, one log that is also the cache."""
