"""Text-to-image pipelines: interface, sampling with gradients, tuning, and a tiny Z-Image."""
