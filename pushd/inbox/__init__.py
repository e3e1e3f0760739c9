"""Inboxes: which in-app messages a user or an install has, from what is in memory and what is in the store."""
