"""One file per method, one pure function per equation of the paper (arXiv:2606.09076)."""
