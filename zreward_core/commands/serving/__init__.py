"""`zreward serve`: the scoring server."""
