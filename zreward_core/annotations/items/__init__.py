"""From ratings to items, histograms, pairs and splits."""
