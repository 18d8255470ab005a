"""Commands for people who rate images: `zreward annotate` and `zreward gsb`."""
