"""Hosts for tests: an sshd on loopback, and a slow line in front of it."""
