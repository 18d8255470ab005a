"""Scores of many images: written, ranked, filtered and compared."""
