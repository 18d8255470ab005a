from zreward_core.training.optimizers import WARMUP_STEPS, trapezoid


def test_the_rate_rises_holds_and_falls_to_zero():
    assert trapezoid(0, 1000) == 1 / WARMUP_STEPS
    assert trapezoid(200, 1000) == 1.0
    assert trapezoid(650, 1000) == 0.5
    assert trapezoid(1000, 1000) == 0.0
