"""Small models trained on small tasks, so that what int8 costs can be counted in decisions."""
