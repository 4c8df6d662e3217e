"""What `dbq.toml` says."""
