"""The hyperparameter search service: from a search space to a tested model."""
