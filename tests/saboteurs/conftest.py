from tests.crash.flow_round import zygote

__all__ = ["zygote"]
