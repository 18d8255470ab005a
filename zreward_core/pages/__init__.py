"""Templates of self-contained HTML pages."""
