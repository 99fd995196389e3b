"""Webhooks: events told to others over HTTP, signed, in order per contact, at least once."""
