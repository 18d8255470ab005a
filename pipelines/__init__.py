"""Dagster over the graph of dvc.yaml: assets, checks and sensors that run commands."""
