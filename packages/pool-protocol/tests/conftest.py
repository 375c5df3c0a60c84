"""Hypothesis without deadlines for examples, or for making them: a busy machine is no failure."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "busy",
    deadline=None,
    suppress_health_check=[*settings().suppress_health_check, HealthCheck.too_slow],
)
settings.load_profile("busy")
