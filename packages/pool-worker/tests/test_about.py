"""pool_worker.__about__ and pool_worker itself."""

import re

import pool_worker
from pool_worker import __about__


def test_one_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", __about__.__version__)
    assert pool_worker.__version__ == __about__.__version__
