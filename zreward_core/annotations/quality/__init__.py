"""Annotation quality: annotator reliability, agreement, contracts."""
