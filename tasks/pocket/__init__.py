"""The pocket suite: a generated world of short posts, with an exact oracle."""
