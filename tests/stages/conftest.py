from tests.stages.training_root import trainable_root, training_root

__all__ = ["trainable_root", "training_root"]
