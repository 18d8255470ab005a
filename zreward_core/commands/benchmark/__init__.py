"""`zreward benchmark`: public sets of human judgements, under every published rule."""
