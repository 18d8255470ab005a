"""From annotations to items and pairs: sources, audit, aggregation, splits."""
