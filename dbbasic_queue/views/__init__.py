"""The queue as people look at it: one reading, which a report, a screen and a page draw."""
