"""The store: one schema, one writer, one file per thing stored."""
