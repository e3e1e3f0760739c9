"""The cluster: which nodes live, and who may write for a notification."""
