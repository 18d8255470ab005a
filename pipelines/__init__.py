"""Dagster assets, checks and sensors generated from dvc.yaml; they run commands."""
