"""Running a stage: launchers, processes, checkpoints, outputs, tracking, progress, workspaces."""
