"""k outputs a prompt from any model: one file a backend, one loop that survives being killed."""
