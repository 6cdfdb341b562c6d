import pytest

from tests.crash.flow_round import zygote

__all__ = ["zygote"]

pytest.register_assert_rewrite("tests.crash.rebuild_checks", "tests.crash.rebuild_walk")
