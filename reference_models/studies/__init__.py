"""Questions that the paper left open, a module each: what is trained and measured for it, and what is made of that."""
