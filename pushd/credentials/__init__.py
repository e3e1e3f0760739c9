"""Gateway credentials: sealed in the store, opened in memory, paused when refused, and the tokens made from them."""
