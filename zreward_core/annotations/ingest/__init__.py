"""Ingestion: from records of any format to ratings, comparisons, opinions and a quarantine."""
