"""The miniature world: scenes, graded defects, the pixel oracle, simulated annotators."""
