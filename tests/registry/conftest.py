from tests.registry.stores import empty_store

__all__ = ["empty_store"]
