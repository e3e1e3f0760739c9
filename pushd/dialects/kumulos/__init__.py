"""Kumulos: its server API, versions 1 and 2, and what its SDKs ask for on devices."""
