"""Connections: who may connect, how bytes come and go, TLS."""
