"""Annotation formats: each reads files into batches of records."""
