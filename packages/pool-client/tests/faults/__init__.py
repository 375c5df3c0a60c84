"""Tests that break things for real: processes are killed, stopped and filled, nothing is mocked."""
