"""Dialects: the REST APIs of hosted services, as their customers' code speaks them. Routes, parse, render, no more."""
