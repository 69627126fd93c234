"""What all tests share: a property is about values, not about time, which a loaded machine stretches."""

from hypothesis import HealthCheck, settings

settings.register_profile("localgd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("localgd")
