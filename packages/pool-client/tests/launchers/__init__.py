"""The ways to start pool-worker."""
