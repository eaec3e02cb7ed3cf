"""TL;DR cut in two by subreddit, length and sentiment: each half with its complement as ood."""
