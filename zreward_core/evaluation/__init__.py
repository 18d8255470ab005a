"""Metrics, bootstrap intervals, GSB, acceptance claims, tables and plots. No torch."""
