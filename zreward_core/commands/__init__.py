"""Commands that are not stages; like stages, they may import all lower-layer packages."""
