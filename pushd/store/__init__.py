"""The store: PostgreSQL, the truth of which everything in memory is a projection."""
