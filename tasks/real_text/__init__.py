"""Both experiments on stand-ins for their data, for models of 1,024 tokens that are trained here from nothing."""
