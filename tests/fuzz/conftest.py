"""How hard the fuzz tests try: `pytest tests/fuzz --hypothesis-profile=deep` for a long search."""

import os

from hypothesis import HealthCheck, settings

_CI = bool(os.environ.get("CI"))

settings.register_profile(
    "default",
    max_examples=200,
    deadline=None,
    derandomize=_CI,  # a search is for developers; CI repeats what is known
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("deep", settings.get_profile("default"), max_examples=5000, derandomize=False)
settings.load_profile("default")
