"""The event feed: what was noted, told to webhooks and streams."""
