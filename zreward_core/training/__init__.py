"""Training loops and the steps that methods share. Plain arguments, no stage configuration."""
