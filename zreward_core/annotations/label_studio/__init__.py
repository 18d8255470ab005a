"""Label Studio projects: labeling configs, tasks, exemplars."""
