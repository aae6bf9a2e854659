"""Floor 4: recipes, records, runs."""
