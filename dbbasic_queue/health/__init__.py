"""Is the queue well?"""
