"""The pages at ``/``, for people: they use nothing but the public API and a key, and are served as they stand."""
