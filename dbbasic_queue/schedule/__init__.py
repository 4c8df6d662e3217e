"""Times: when a recurring job is due."""
