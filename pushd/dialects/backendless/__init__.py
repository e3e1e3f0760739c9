"""Backendless: pushes, their templates, device registrations and users, as its REST API and SDKs have them."""
