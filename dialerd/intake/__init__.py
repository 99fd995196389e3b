"""Contacts from CSV, NDJSON and JSON: streamed, checked, reported by row and column."""
