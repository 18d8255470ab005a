"""Metrics, intervals, GSB, claims, tables and plots. Arrays and tables in, numbers out."""
