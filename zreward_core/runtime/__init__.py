"""Loop helpers, checkpoint and resume, progress. What every stage needs to run safely."""
