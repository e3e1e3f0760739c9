"""Exports of other services: read row by row, and turned into the records that an import carries out."""
