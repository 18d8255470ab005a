"""What stands behind commands that are no stage; like stages, a place where rooms meet."""
