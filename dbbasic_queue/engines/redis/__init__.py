"""The engine on a Redis or Valkey server: jobs are RQ's records, their transitions are ours."""
