"""Training: recipes as files, one loop. Weights that mean something for networks without published ones."""
