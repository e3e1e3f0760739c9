"""The vocabulary: apps, users, devices, credentials, audiences, messages and notifications."""
