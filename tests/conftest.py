"""Settings for the whole suite."""

from __future__ import annotations

import os

from hypothesis import settings

# two shared cores: an example that takes long says nothing; in CI the examples are the same in every run
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")
