"""Sampling with gradients through a pipeline, and what pretrains a tiny one."""
