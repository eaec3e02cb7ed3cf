"""Reference trainers: one readable file a method. They need torch, transformers, accelerate and numpy alone."""
