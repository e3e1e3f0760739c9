"""Gravitec: its server API, version 3."""
